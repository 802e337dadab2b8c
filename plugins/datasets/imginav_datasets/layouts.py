"""Layouts of the user's own: image files, listed in a CSV file."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import field, frozen

from imginav import LayoutSource, UserError
from imginav.plugin import UNMATCHED
from imginav_datasets.classes import LABELS
from imginav_datasets.filters import Filter, Value, read_filters
from imginav_datasets.image_layouts import BadRow, ImageDataset, ImageLayouts, Origin, Row
from imginav_datasets.layout_list import Line, read_list, refuse_doubled, value_of


@frozen(kw_only=True)
class Layouts(ImageDataset):
    """Layout images listed in a CSV file, with their classes found by colour."""

    manifest: Path  # the CSV file, one layout a row
    path_column: str = "layout_path"  # image files, absolute or relative to the CSV file
    label_column: str = "type"  # the type of the layout; without this column there are no labels
    scene_column: str = "scene_id"  # layouts of one scene are not split apart; without it each is its own
    filters: dict[str, Value] = field(factory=dict)  # rows to take: is_empty = false, room_count__ge = 2

    def open(self) -> LayoutSource:
        return ListedLayouts(self)


class ListedLayouts(ImageLayouts):
    """The layouts of a list."""

    def __init__(self, config: Layouts) -> None:
        """Read the list and check the files; raises UserError with all that is wrong at once."""
        with read_list(config.manifest, config.path_column) as (columns, lines):
            rows, listed = _select(config, columns, lines)
        once = _taken_once(rows)
        origin = Origin(
            config.manifest,
            take_out=("take its row out of the list", "take their rows out of the list"),
            not_chosen="rows left out by filters or count",
            lines=True,
        )
        types = config.label_column in columns
        super().__init__(config, origin, once, listed=listed, again=len(rows) - len(once), types=types)

    def name(self, index: int) -> str:
        row = self._rows[index]
        return f"{row.shown} (line {row.number} of {self._origin.path})"


def _select(config: Layouts, columns: Sequence[str], lines: Iterable[Line]) -> tuple[list[Row | BadRow], int]:
    """Return the rows that the filters leave, and those of which nobody can tell; and how many there are in all."""
    conditions = read_filters(config.filters, columns)
    used = [config.path_column, config.label_column, config.scene_column, *(c.column for c in conditions)]
    refuse_doubled(config.manifest, columns, used)
    folder, listed = str(config.manifest.parent), 0
    rows: list[Row | BadRow] = []
    for listed, line in enumerate(lines, 1):  # noqa: B007  # the last one is how many there are
        if row := _row(config, conditions, line, folder):
            rows.append(row)
    if not listed:
        raise UserError(f"{config.manifest}: lists no layouts; it needs a row for each")
    if not rows:
        raise UserError(f"{config.manifest}: none of its {listed} rows is left; loosen data.filters")
    return rows, listed


def _row(config: Layouts, conditions: Sequence[Filter], line: Line, folder: str) -> Row | BadRow | None:
    if line.fault:
        return BadRow(line.number, line.fault, line.fault)
    where = f"line {line.number} of {config.manifest}"
    try:
        if not all(condition.keeps(line.cells, where) for condition in conditions):
            return None
    except UserError as error:
        return BadRow(line.number, "with a cell that a filter cannot read", str(error))
    written = value_of(line.cells[config.path_column])
    if not written:
        return BadRow(line.number, "without a path", "without a path")
    label = line.cells.get(config.label_column, "").lower()
    return Row(
        line.number,
        os.path.join(folder, written),  # noqa: PTH118  # a Path for each of a million rows takes seconds
        written,
        LABELS.index(label) if label in LABELS else UNMATCHED,
        value_of(line.cells.get(config.scene_column, "")) or None,
    )


def _taken_once(rows: Sequence[Row | BadRow]) -> list[Row | BadRow]:
    """Leave out rows that list a file again, which might train on what validates; those that differ are bad ones."""
    folder = functools.lru_cache(maxsize=None)(os.path.realpath)
    first: dict[tuple[str, str], Row] = {}
    kept: list[Row | BadRow] = []
    for row in rows:
        if isinstance(row, BadRow):
            kept.append(row)
            continue
        parent, name = os.path.split(row.place)
        if name in ("", ".", ".."):  # a path that ends in no file's name
            parent, name = str(row.path.parent), row.path.name
        earlier = first.setdefault((folder(parent), name), row)
        if earlier is row:
            kept.append(row)
        elif (earlier.label, earlier.scene) != (row.label, row.scene):
            kind = "listed again with another type or scene"
            kept.append(BadRow(row.number, kind, f"{kind} than in line {earlier.number}: {row.shown}"))
    return kept
