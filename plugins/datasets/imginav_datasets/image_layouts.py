"""Layouts that are image files, whatever names them: a list or a folder."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import unicodedata
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray
from PIL import __version__ as PILLOW

from imginav import Dataset, DataSpec, LayoutSource, UserError
from imginav.plugin import UNMATCHED, Palette, Sample, from_to, in_one_line
from imginav_datasets.classes import LABELS, PALETTE
from imginav_datasets.colours import Unmatched, hex_of, nearest_class, unmatched_in
from imginav_datasets.image_files import (
    UnusableImageError,
    digest_of,
    fault_of,
    ignore_warnings_of_pillow,
    read_image,
    read_image_with_digest,
)
from imginav_datasets.layout_store import CLASSES, RGB, Stored, as_digests
from imginav_datasets.palette_file import read_palette
from imginav_datasets.preparing import Prepared, in_threads, prepare

FAULTS_SHOWN = 20

SAMPLED = 32
"""Layouts whose colours are compared with the palette before a training, spread evenly over the set."""

NOTED_SHARE = 0.01
"""Share of pixels of no class from which a line says so, below the limit."""


@frozen(kw_only=True)
class ImageDataset(Dataset):
    """Layouts that are image files, with their classes found by colour."""

    palette: Path | Literal[False] | None = None  # a TOML file of classes; none: the ten drawn ones; false: no classes
    tolerance: int = field(
        default=8, validator=from_to(0, 60)
    )  # how far a colour may be off its class's, in each channel
    unmatched_limit: float = field(
        default=0.1, validator=from_to(0, 1)
    )  # share of pixels of no class, in a sample of the layouts, above which nothing is trained


@frozen
class Row:
    """One layout of the set."""

    number: int  # the line of the CSV file, whose header is line 1; in a folder, its position
    place: str  # where its file is
    written: str  # the path as it stands in the list, or relative to the folder
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
    """A row whose layout cannot be used."""

    number: int
    kind: str  # what is wrong, in a few words
    text: str  # the same with what it is wrong with


@frozen
class Origin:
    """What names the files, and how messages speak of it."""

    path: Path  # the list, or the folder
    take_out: tuple[str, str]  # how to take a file out of the set, as a remedy; and the same of several
    not_chosen: str  # what it is called that the settings leave out, and by what
    lines: bool = False  # whether rows are lines of the list

    def of(self, row: Row | BadRow) -> str:
        """Return where a row stands, with a colon; nothing in a folder, where its path says it."""
        return f"line {row.number}: " if self.lines else ""


class ImageLayouts(LayoutSource):
    """Reads each image file once for its pixels, its classes and its label."""

    def __init__(
        self,
        config: ImageDataset,
        origin: Origin,
        rows: Sequence[Row | BadRow],
        *,
        listed: int,
        again: int,
        types: bool,
    ) -> None:
        """Read the palette and check the files; raises UserError with all that is wrong at once.

        Of `listed` rows, `again` named a file that another one has, and were left out. With `types`, rows have labels.
        """
        ignore_warnings_of_pillow()
        self._config, self._origin, self._again = config, origin, again
        palette = read_palette(config.palette) if isinstance(config.palette, Path) else PALETTE
        self._tolerance = None if config.palette is False else config.tolerance  # none: the images have no classes
        self._rows, self._bad, self._unusable = _usable(config, origin, rows)
        classes = () if self._tolerance is None else ("segmentation",)
        self.spec = DataSpec(palette=palette, labels=LABELS, targets=("rgb", *classes, *(("label",) if types else ())))
        self._prepared: Prepared | None = None
        self._not_chosen = listed - again - len(self._rows) - len(self._bad)

    def __len__(self) -> int:
        return len(self._rows)

    def check_pixels(self) -> str:
        if self._tolerance is None:
            return ""
        sampled = np.unique(np.linspace(0, len(self) - 1, min(SAMPLED, len(self))).round().astype(int)).tolist()
        rows = [self._rows[index] for index in sampled]
        images = (rgb for rgb in in_threads(self._rgb_or_none, rows) if rgb is not None)
        found = unmatched_in(images, self.spec.palette, self._tolerance)
        if found.share > self._config.unmatched_limit:
            folder = os.path.commonpath([str(row.path.absolute().parent) for row in rows])
            raise UserError(self._wrong_palette(found, folder))
        if found.share < NOTED_SHARE:
            return ""
        return (
            f"{found.share:.1%} of the pixels in {found.images} sampled layouts have the colour of no class "
            f"({', '.join(hex_of(c.colour) for c in found.commonest)}): losses and metrics ignore them"
        )

    def _wrong_palette(self, found: Unmatched, folder: str) -> str:
        palette = f"the palette {self._config.palette}" if self._config.palette else "the built-in palette"
        lines = [
            f"{self._origin.path}: {found.share:.1%} of the pixels in {found.images} sampled layouts have the colour "
            f"of no class of {palette}, more than data.unmatched_limit = {self._config.unmatched_limit:g}; the "
            "commonest of these colours are:"
        ]
        for colour in found.commonest:
            near = nearest_class(self.spec.palette, colour.colour)
            lines.append(f"  {hex_of(colour.colour)} {colour.colour}: {colour.share:.1%}{f', {near}' if near else ''}")
        return "\n".join(
            [
                *lines,
                f"make a palette of these images with `imginav scan {shlex.quote(folder)} --to scanned` and name it "
                'with data.palette = "scanned/palette.toml"; where the colours are shades of the classes\', raise '
                f"data.tolerance = {self._config.tolerance} in its place; for images that are not flat-coloured, set "
                "data.palette = false and train phases/rgb/1_5.toml",
            ]
        )

    def _rgb_or_none(self, row: Row) -> NDArray[np.uint8] | None:
        try:
            return read_image(row.path, self._config.image_size, self.spec.palette.background_colour)
        except UnusableImageError:  # it is said where the layout is read to be used
            return None

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
            skip = f"{self._origin.take_out[0]}, or leave out what cannot be used with data.on_bad = 'skip'"
            remedy = f"; mend the file, {skip}" if self._config.on_bad == "error" else ""
            where = f"{self._origin.path}: {self._origin.of(row)}" if self._origin.lines else ""
            raise UserError(f"{where}{row.shown} cannot be read ({error}){remedy}") from error
        if self._tolerance is None:
            return {"rgb": rgb}
        return {"rgb": rgb, "segmentation": self.spec.palette.match(rgb, self._tolerance)}

    @abstractmethod
    def name(self, index: int) -> str: ...

    def identity(self, index: int) -> str:
        row = self._rows[index]
        classes = "no classes" if self._tolerance is None else self._tolerance
        return f"{row.written} | {row.label} | {row.scene} | {classes}"

    def scene(self, index: int) -> str | None:
        return self._rows[index].scene

    def left_out(self) -> list[str]:
        return [f"{self._origin.path}: {self._origin.of(row)}{row.text}" for row in self._bad]

    def describe(self) -> str:
        parts = [f"{len(self)} layouts from {self._origin.path}"]
        if self._tolerance is None:
            parts.append("which have no classes")
        elif self._config.palette:
            parts.append(f"with the {len(self.spec.palette)} classes of {self._config.palette}")
        if self._not_chosen:
            parts.append(f"{self._not_chosen} {self._origin.not_chosen}")
        if self._again:
            parts.append(f"{self._again} listed again and taken once")
        if self._bad:
            parts.append(f"{len(self._bad)} left out because they cannot be used ({_kinds(self._bad)})")
        if self._unusable:
            parts.append(f"{len(self._unusable)} whose files cannot be used ({_kinds(self._unusable)})")
        if "label" in self.spec.targets and (unknown := sum(row.label == UNMATCHED for row in self._rows)):
            parts.append(f"{unknown} of a type other than {' or '.join(LABELS)}, which have no label")
        return ", ".join(parts)


def _usable(
    config: ImageDataset, origin: Origin, rows: Sequence[Row | BadRow]
) -> tuple[list[Row], list[BadRow], list[BadRow]]:
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
        raise UserError(_all_faults(config, origin, wrong, len(bad) + len(chosen)))
    return chosen, bad, unusable


def _all_faults(config: ImageDataset, origin: Origin, bad: Sequence[BadRow], rows: int) -> str:
    remedy = f"mend them, {origin.take_out[1]}"
    remedy += ", or leave them out with data.on_bad = 'skip'" if config.on_bad == "error" else ""
    more = [f"  … and {len(bad) - FAULTS_SHOWN} more"] if len(bad) > FAULTS_SHOWN else []
    return "\n".join(
        [
            f"{origin.path}: {len(bad)} of {rows} layouts cannot be used ({_kinds(bad)}); {remedy}:",
            *(f"  {origin.of(row)}{row.text}" for row in bad[:FAULTS_SHOWN]),
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
