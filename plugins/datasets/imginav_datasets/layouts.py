"""Layouts of the user's own: image files, listed in a CSV file."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from imginav import Dataset, DataSpec, LayoutSource, UserError
from imginav.checks import from_to
from imginav.components import Sample
from imginav.errors import did_you_mean
from imginav.palette import UNMATCHED
from imginav_datasets.classes import LABELS, PALETTE
from imginav_datasets.filters import Value, read_filters

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND"
TAIL_BYTES = 64
"""Where a PNG's end mark is looked for, counted from the end of the file."""

WHITE_16_BITS = 65535
"""The value of white in an image of 16 bits."""

CHECKING_THREADS = 16
"""Files that are checked at once: on a shared disk each waits for the server, not for the processor."""

FAULTS_SHOWN = 20


@frozen(kw_only=True)
class Layouts(Dataset):
    """Layout images listed in a CSV file, with their classes found by colour."""

    manifest: Path  # the CSV file, one layout a row
    path_column: str = "layout_path"  # image files, absolute or relative to the CSV file
    label_column: str = "type"  # the type of the layout; without this column there are no labels
    scene_column: str = "scene_id"  # layouts of one scene are not split apart; without it each is its own
    filters: dict[str, Value] = field(factory=dict)  # rows to take: is_empty = false, room_count__ge = 2
    tolerance: int = field(
        default=8, validator=from_to(0, 60)
    )  # how far a colour may be off its class's, in each channel

    def open(self) -> LayoutSource:
        return ListedLayouts(self)


@frozen
class Row:
    """One layout of the list."""

    number: int  # the line of the CSV file; the header is line 1
    path: Path
    written: str  # the path as it stands in the list
    label: int  # the index of its type, or UNMATCHED
    scene: str | None


class ListedLayouts(LayoutSource):
    """Reads each image file once for its pixels, its classes and its label."""

    def __init__(self, config: Layouts) -> None:
        """Read the list and check the files; raises UserError with all that is wrong at once."""
        self._config = config
        columns, lines = _read_list(config)
        self._rows = _select(config, columns, lines)
        _check_files(config.manifest, self._rows)
        labels = ("label",) if config.label_column in columns else ()
        self.spec = DataSpec(palette=PALETTE, labels=LABELS, targets=("rgb", "segmentation", *labels))
        self._left_out = len(lines) - len(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Sample:
        row = self._rows[index]
        rgb = _read_image(row, self._config)
        sample = {"rgb": rgb, "segmentation": PALETTE.match(rgb, self._config.tolerance)}
        if "label" in self.spec.targets:
            sample["label"] = np.array(row.label, dtype=np.uint8)
        return sample

    def name(self, index: int) -> str:
        row = self._rows[index]
        return f"{row.path} (line {row.number} of {self._config.manifest})"

    def identity(self, index: int) -> str:
        row = self._rows[index]
        return f"{row.written} | {row.label} | {row.scene} | {self._config.tolerance}"

    def scene(self, index: int) -> str | None:
        return self._rows[index].scene

    def describe(self) -> str:
        parts = [f"{len(self)} layouts from {self._config.manifest}"]
        if self._left_out:
            parts.append(f"{self._left_out} rows left out by filters or count")
        if "label" in self.spec.targets and (unknown := sum(row.label == UNMATCHED for row in self._rows)):
            parts.append(f"{unknown} of a type other than {' or '.join(LABELS)}, which have no label")
        return ", ".join(parts)


def _read_list(config: Layouts) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the columns and the rows of the CSV file, each with its line number."""
    path = config.manifest
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # it might never end, or never begin
            raise UserError(f"data.manifest = {str(path)!r}: is no file but a device, a pipe or a socket; name a file")
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="")
            columns = list(reader.fieldnames or ())
            lines = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise UserError(
            f"data.manifest = {str(path)!r}: no such file; name the CSV file that lists the layouts"
        ) from None
    except OSError as error:
        raise UserError(f"data.manifest = {str(path)!r}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.manifest = {str(path)!r}: is no CSV file in UTF-8: {error}") from None
    if config.path_column not in columns:
        raise UserError(
            f"{path}: has no column {config.path_column!r}{did_you_mean(config.path_column, columns)}; its columns are "
            f"{', '.join(columns) or 'none'}; name the one with the image files as data.path_column"
        )
    return columns, lines


def _select(config: Layouts, columns: Sequence[str], lines: Sequence[tuple[int, dict[str, str]]]) -> list[Row]:
    conditions = read_filters(config.filters, columns)
    rows = []
    for number, line in lines:
        where = f"line {number} of {config.manifest}"
        if all(condition.keeps(line, where) for condition in conditions):
            label = line.get(config.label_column, "").strip().lower()
            rows.append(
                Row(
                    number,
                    config.manifest.parent / line[config.path_column].strip(),
                    line[config.path_column].strip(),
                    LABELS.index(label) if label in LABELS else UNMATCHED,
                    line.get(config.scene_column, "").strip() or None,
                )
            )
            if config.count is not None and len(rows) == config.count:
                break
    if not rows:
        raise UserError(f"{config.manifest}: none of its {len(lines)} rows is left; loosen data.filters")
    return rows


def _check_files(manifest: Path, rows: Sequence[Row]) -> None:
    """Look at the start and the end of each file, which is cheap, and finds what is missing or cut off."""
    with ThreadPoolExecutor(CHECKING_THREADS) as pool:
        faults = list(zip(rows, pool.map(lambda row: _file_fault(row.path), rows), strict=True))
    wrong = [f"  line {row.number}: {fault}: {row.path}" for row, fault in faults if fault]
    if wrong:
        kinds = Counter(fault for _, fault in faults if fault)
        more = [f"  … and {len(wrong) - FAULTS_SHOWN} more"] if len(wrong) > FAULTS_SHOWN else []
        raise UserError(
            "\n".join(
                [
                    f"{manifest}: {len(wrong)} of {len(rows)} layouts cannot be used "
                    f"({', '.join(f'{number} {kind}' for kind, number in kinds.items())}); "
                    "mend the files, or take their rows out of the list:",
                    *wrong[:FAULTS_SHOWN],
                    *more,
                ]
            )
        )


def _file_fault(path: Path) -> str:
    """Return what is wrong with an image file, in a word or two, or nothing."""
    try:
        with path.open("rb") as stream:
            start = stream.read(len(PNG_START))
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL_BYTES))
            tail = stream.read()
        if not size:
            return "empty"
        if start == PNG_START:
            return "" if PNG_END in tail else "cut off"
        with Image.open(path):
            return ""
    except FileNotFoundError:
        return "missing"
    except IsADirectoryError:
        return "a folder"
    except (UnidentifiedImageError, Image.DecompressionBombError, ValueError):  # the last for what can be no path
        return "no image"
    except OSError as error:
        return error.strerror or "unreadable"


def _read_image(row: Row, config: Layouts) -> NDArray[np.uint8]:
    """Return an image file as RGB bytes (image_size, image_size, 3)."""
    try:
        with Image.open(row.path) as image:
            image.load()
            picture = _flattened(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{config.manifest}: line {row.number}: {row.path} cannot be read ({error}); mend the file, or take "
            "its row out of the list"
        ) from error
    return np.asarray(_of_size(picture, config.image_size))


def _flattened(image: Image.Image) -> Image.Image:
    """Return an image as RGB; what is transparent shows the background."""
    if image.mode.startswith("I"):  # grey of 16 bits, which Pillow cuts off at 255 and does not scale
        scaled = np.rint(np.asarray(image) / WHITE_16_BITS * 255).clip(0, 255)
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (*PALETTE.background_colour, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def _of_size(image: Image.Image, size: int) -> Image.Image:
    """Return an image in a square of `size` pixels: scaled to fit without new colours, centred on background."""
    if image.size == (size, size):
        return image
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new("RGB", (size, size), PALETTE.background_colour)
    scaled = image.resize((width, height), Image.Resampling.NEAREST)
    square.paste(scaled, ((size - width) // 2, (size - height) // 2))
    return square
