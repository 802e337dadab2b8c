"""Layouts of the user's own: image files, listed in a CSV file."""

from __future__ import annotations

import functools
import inspect
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from attrs import field, frozen
from PIL import __version__ as PILLOW

from imginav import Dataset, DataSpec, LayoutSource, UserError
from imginav.plugin import (
    UNMATCHED,
    Palette,
    Sample,
    from_to,
    in_one_line,
)
from imginav_datasets.classes import LABELS, PALETTE
from imginav_datasets.filters import Filter, Value, read_filters
from imginav_datasets.image_files import (
    UnusableImageError,
    digest_of,
    fault_of,
    ignore_warnings_of_pillow,
    read_image,
    read_image_with_digest,
)
from imginav_datasets.layout_list import Line, read_list, refuse_doubled, value_of
from imginav_datasets.layout_store import CLASSES, RGB, Stored, as_digests
from imginav_datasets.palette_file import read_palette
from imginav_datasets.preparing import Prepared, in_threads, prepare

FAULTS_SHOWN = 20


@frozen(kw_only=True)
class Layouts(Dataset):
    """Layout images listed in a CSV file, with their classes found by colour."""

    manifest: Path  # the CSV file, one layout a row
    path_column: str = "layout_path"  # image files, absolute or relative to the CSV file
    label_column: str = "type"  # the type of the layout; without this column there are no labels
    scene_column: str = "scene_id"  # layouts of one scene are not split apart; without it each is its own
    filters: dict[str, Value] = field(factory=dict)  # rows to take: is_empty = false, room_count__ge = 2
    palette: Path | Literal[False] | None = None  # a TOML file of classes; none: the ten drawn ones; false: no classes
    tolerance: int = field(
        default=8, validator=from_to(0, 60)
    )  # how far a colour may be off its class's, in each channel

    def open(self) -> LayoutSource:
        return ListedLayouts(self)


@frozen
class Row:
    """One layout of the list."""

    number: int  # the line of the CSV file; the header is line 1
    place: str  # where its file is
    written: str  # the path as it stands in the list
    label: int  # the index of its type, or UNMATCHED
    scene: str | None

    @property
    def path(self) -> Path:
        return Path(self.place)

    @property
    def shown(self) -> str:
        """The path as it can stand in a sentence: a cell in quotes may hold a line break."""
        return in_one_line(str(self.path))


@frozen
class BadRow:
    """A row of the list whose layout cannot be used."""

    number: int
    kind: str  # what is wrong, in a few words
    text: str  # the same with what it is wrong with


class ListedLayouts(LayoutSource):
    """Reads each image file once for its pixels, its classes and its label."""

    def __init__(self, config: Layouts) -> None:
        """Read the palette and the list, and check the files; raises UserError with all that is wrong at once."""
        ignore_warnings_of_pillow()
        self._config = config
        palette = read_palette(config.palette) if isinstance(config.palette, Path) else PALETTE
        self._tolerance = None if config.palette is False else config.tolerance  # none: the images have no classes
        with read_list(config.manifest, config.path_column) as (columns, lines):
            rows, listed = _select(config, columns, lines)
        once = _taken_once(rows)
        self._again = len(rows) - len(once)
        self._rows, self._bad, self._unusable = _usable(config, once)
        classes = () if self._tolerance is None else ("segmentation",)
        labels = ("label",) if config.label_column in columns else ()
        self.spec = DataSpec(palette=palette, labels=LABELS, targets=("rgb", *classes, *labels))
        self._prepared: Prepared | None = None
        self._not_chosen = listed - self._again - len(self._rows) - len(self._bad)

    def __len__(self) -> int:
        return len(self._rows)

    def prepare(self, folder: Path | None, log: Callable[[str], None] = print) -> None:
        if folder is None:
            return
        digests = as_digests(in_threads(_digest_or_none, self._rows))
        code = [Path(inspect.getfile(maker)) for maker in (read_image, Palette)]
        origin = (self._tolerance, self.spec.palette, PILLOW, *code)
        kind = RGB if self._tolerance is None else CLASSES
        self._prepared = prepare(folder, origin, self._config.image_size, digests, self._made, log, kind=kind)

    def _made(self, indices: Sequence[int]) -> Iterator[tuple[bytes, Stored]]:
        """Return these layouts as they can be stored, each with its digest; those that cannot be read are missing."""
        rows = [self._rows[index] for index in indices]
        size, tolerance = self._config.image_size, self._tolerance
        make = functools.partial(_stored, size=size, palette=self.spec.palette, tolerance=tolerance)
        return (made for made in in_threads(make, rows) if made)

    def read(self, index: int) -> Sample:
        row = self._rows[index]
        stored = self._prepared.read(index) if self._prepared else None
        sample = stored.sample if stored else self._read_file(row)
        if "label" in self.spec.targets:
            sample["label"] = np.array(row.label, dtype=np.uint8)
        return sample

    def _read_file(self, row: Row) -> Sample:
        try:
            rgb = read_image(row.path, self._config.image_size, self.spec.palette.background_colour)
        except UnusableImageError as error:
            remedy = f"; mend the file, {_LEAVE_IT_OUT}" if self._config.on_bad == "error" else ""
            raise UserError(
                f"{self._config.manifest}: line {row.number}: {row.shown} cannot be read ({error}){remedy}"
            ) from error
        if self._tolerance is None:
            return {"rgb": rgb}
        return {"rgb": rgb, "segmentation": self.spec.palette.match(rgb, self._tolerance)}

    def name(self, index: int) -> str:
        row = self._rows[index]
        return f"{row.shown} (line {row.number} of {self._config.manifest})"

    def identity(self, index: int) -> str:
        row = self._rows[index]
        classes = "no classes" if self._tolerance is None else self._tolerance
        return f"{row.written} | {row.label} | {row.scene} | {classes}"

    def scene(self, index: int) -> str | None:
        return self._rows[index].scene

    def left_out(self) -> list[str]:
        return [f"{self._config.manifest}: line {row.number}: {row.text}" for row in self._bad]

    def describe(self) -> str:
        parts = [f"{len(self)} layouts from {self._config.manifest}"]
        if self._tolerance is None:
            parts.append("which have no classes")
        elif self._config.palette:
            parts.append(f"with the {len(self.spec.palette)} classes of {self._config.palette}")
        if self._not_chosen:
            parts.append(f"{self._not_chosen} rows left out by filters or count")
        if self._again:
            parts.append(f"{self._again} listed again and taken once")
        if self._bad:
            parts.append(f"{len(self._bad)} left out because they cannot be used ({_kinds(self._bad)})")
        if self._unusable:
            parts.append(f"{len(self._unusable)} whose files cannot be used ({_kinds(self._unusable)})")
        if "label" in self.spec.targets and (unknown := sum(row.label == UNMATCHED for row in self._rows)):
            parts.append(f"{unknown} of a type other than {' or '.join(LABELS)}, which have no label")
        return ", ".join(parts)


_LEAVE_IT_OUT = "take its row out of the list, or leave out what cannot be used with data.on_bad = 'skip'"


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


def _usable(config: Layouts, rows: Sequence[Row | BadRow]) -> tuple[list[Row], list[BadRow], list[BadRow]]:
    """Return the first `count` rows, the bad ones that were met on the way to them, and those with unusable files.

    The last are among the first: what a set consists of follows from its list, not from what a disk can give today,
    or a run would not go on where a file has gone. Raises UserError where such rows are not to be skipped, or there
    are no others.
    """
    chosen: list[Row] = []
    bad: list[BadRow] = []
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            chosen.append(row)
        if len(chosen) == config.count:
            break
    unusable = _with_unusable_files(chosen)
    if (bad or unusable) and (config.on_bad == "error" or len(unusable) == len(chosen)):
        wrong = sorted([*bad, *unusable], key=lambda row: row.number)
        raise UserError(_all_faults(config, wrong, len(bad) + len(chosen)))
    return chosen, bad, unusable


def _all_faults(config: Layouts, bad: Sequence[BadRow], rows: int) -> str:
    remedy = "mend them, take their rows out of the list"
    remedy += ", or leave them out with data.on_bad = 'skip'" if config.on_bad == "error" else ""
    more = [f"  … and {len(bad) - FAULTS_SHOWN} more"] if len(bad) > FAULTS_SHOWN else []
    return "\n".join(
        [
            f"{config.manifest}: {len(bad)} of {rows} layouts cannot be used ({_kinds(bad)}); {remedy}:",
            *(f"  line {row.number}: {row.text}" for row in bad[:FAULTS_SHOWN]),
            *more,
        ]
    )


def _kinds(bad: Sequence[BadRow]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in Counter(row.kind for row in bad).items())


def _with_unusable_files(rows: Sequence[Row]) -> list[BadRow]:
    faults = in_threads(lambda row: fault_of(row.path), rows)
    return [
        BadRow(row.number, fault, f"{fault}: {row.shown}{_hint(row) if fault == 'missing' else ''}")
        for row, fault in zip(rows, faults, strict=True)
        if fault
    ]


def _digest_or_none(row: Row) -> bytes:
    """Return the digest of a file, or an empty one where it cannot be read: that is for who reads it to say."""
    try:
        return digest_of(row.path)
    except UnusableImageError:
        return b""


def _stored(row: Row, size: int, palette: Palette, tolerance: int | None) -> tuple[bytes, Stored] | None:
    """Return a file's layout as it can be stored, with its digest; none where it cannot be read.

    Without a tolerance it has no classes.
    """
    try:
        rgb, digest = read_image_with_digest(row.path, size, palette.background_colour)
    except UnusableImageError:
        return None
    if tolerance is None:
        return digest, Stored(None, rgb)
    segmentation = palette.match(rgb, tolerance)
    exact = np.array_equal(palette.colour(segmentation), rgb)
    return digest, Stored(segmentation, None if exact else rgb)


def _hint(row: Row) -> str:
    """Return what may be wrong with a path under which there is no file."""
    if "\\" in row.written:
        return " (a path of Windows? write / in place of \\)"
    if row.written.startswith("~"):
        return " (~ is no folder here; write it out)"
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for form in forms:
        if os.path.exists(unicodedata.normalize(form, str(row.path))):  # noqa: PTH110  # Path's raises for long names
            return f" (there is a file whose name has its accents in the form {form})"
    return ""
