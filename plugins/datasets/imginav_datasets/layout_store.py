"""Layouts on the disk as they are read fastest: class indices as bytes, found by what they were made from.

A store is a folder of segments. One process writes a segment, once: the pixels of some layouts into `NAME.pixels`, and
when they are on the disk, an entry of fixed size for each into `NAME.index`. Nothing that is written ever changes, so
that others may read at the same time; what a killed process has left behind its last entry belongs to nobody. An entry
is found by the digest of what its layout was made from: of a file's bytes, so that one that was changed is another.
"""

from __future__ import annotations

import mmap
import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from imginav.plugin import UNMATCHED, Sample, sync_folder

VERSION = 1
"""Of the files' format, raised with each change of it."""

INDEX, PIXELS = ".index", ".pixels"

ENTRY = np.dtype(
    [
        ("digest", "S32"),  # SHA-256 of what the layout was made from
        ("offset", "<u8"),  # of its pixels, in bytes
        ("sum", "<u8"),  # of its pixels, see `_sum`
        ("kind", "u1"),
        ("label", "u1"),  # its type as a class index, where what it was made from says it; UNMATCHED: it does not
        ("spare", "u1", 6),
        ("check", "<u8"),  # of what stands before in this entry
    ]
)

CLASSES, COLOURS, RGB = 0, 1, 2
"""Kinds of entries: class indices alone; RGB bytes and class indices, where a colour is not exactly its class's; RGB
bytes alone, of images without classes."""

PIXEL_BYTES = (1, 4, 3)
"""Of each kind."""

ALIGNED = 64
"""Bytes, of which the pixels of a layout take a multiple; what is over is zero."""

SALT = np.uint64(0x9E3779B97F4A7C15)
"""In every sum, so that zeros, which crashed disks leave, are never right."""

COMMIT_BYTES = 2**26
"""Of pixels after which they are brought to the disk and get their entries: what a killed process loses at most."""


@frozen
class Stored:
    """A layout in the store."""

    segmentation: NDArray[np.uint8] | None  # (side, side) class indices; none: the image has no classes
    rgb: NDArray[np.uint8] | None  # (side, side, 3) bytes; none: each pixel has exactly the colour of its class
    label: int = UNMATCHED

    @property
    def kind(self) -> int:
        """Which kind of entry it becomes."""
        if self.rgb is None:
            return CLASSES
        return RGB if self.segmentation is None else COLOURS

    @property
    def sample(self) -> Sample:
        """What there is of its pixels, by name."""
        arrays = {"segmentation": self.segmentation, "rgb": self.rgb}
        return {name: array for name, array in arrays.items() if array is not None}


class LayoutStore:
    """The layouts of `side` pixels that a folder has, as they were when it was last loaded.

    In each process it opens files when they are first read from; copies of it go to other processes without them.
    """

    def __init__(self, folder: Path, side: int) -> None:
        self.folder = folder
        self._side = side
        self._maps: dict[int, NDArray[np.uint8]] = {}  # by the number of their segment
        self.load()

    def load(self) -> None:
        """Look what there is."""
        self._segments = sorted(self.folder.glob(f"*{INDEX}"))
        parts = [read_index(path, self._side) for path in self._segments]
        entries = np.concatenate([np.empty(0, ENTRY), *parts])
        numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        order = np.argsort(entries["digest"], kind="stable")
        self._maps.clear()
        self._digests = entries["digest"][order]
        self._segment_of, self._offsets = numbers[order], entries["offset"][order].astype(np.int64)
        self._sums, self._kinds, self._labels = (entries[name][order] for name in ("sum", "kind", "label"))
        self._sound = np.zeros(len(entries), dtype=bool)  # which were found as they were written, in this process

    def __len__(self) -> int:
        return len(self._digests)

    def find(self, digests: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """Return the places of layouts by the digests of what they were made from; -1 for those that are not there."""
        if not len(self):
            return np.full(len(digests), -1)
        places = np.searchsorted(self._digests, digests).clip(max=len(self) - 1)
        return np.where(self._digests[places] == digests, places, -1)

    def read(self, place: int) -> Stored | None:
        """Return the layout at a place, its arrays over the file itself; none where the file is damaged or gone."""
        offset, kind = int(self._offsets[place]), self._kinds[place]
        segment = int(self._segment_of[place])
        pixels = self._maps.get(segment)
        if pixels is None:
            pixels = self._maps[segment] = _mapped(self._segments[segment].with_suffix(PIXELS))
        if not self._sound[place]:
            content = pixels[offset : offset + _padded(self._side, kind)]
            if len(content) < _padded(self._side, kind) or _sum(content) != self._sums[place]:
                with suppress(OSError):
                    self._segments[segment].unlink()  # so that it is made anew the next time
                return None
            self._sound[place] = True
        area = self._side**2
        content = pixels[offset : offset + PIXEL_BYTES[kind] * area]
        rgb = None if kind == CLASSES else content[: 3 * area].reshape(self._side, self._side, 3)
        segmentation = None if kind == RGB else content[-area:].reshape(self._side, self._side)
        return Stored(segmentation, rgb, int(self._labels[place]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}


class SegmentWriter:
    """Writes layouts of `side` pixels into a new segment; with the end of its `with` block they are on the disk."""

    def __init__(self, folder: Path, side: int) -> None:
        self._side = side
        self._pixels = folder / f"{uuid.uuid4().hex}{PIXELS}"
        self._index = self._pixels.with_suffix(INDEX)
        self._entries: list[tuple[Any, ...]] = []  # of what is not on the disk yet
        self._end = self._committed = 0

    def __enter__(self) -> SegmentWriter:
        # The index first: pixels without one are nobody's.
        self._index_stream = self._index.open("xb")
        self._pixels_stream = self._pixels.open("xb")
        sync_folder(self._index.parent)
        return self

    def add(self, digest: bytes, layout: Stored) -> None:
        """Write a layout, found by the digest of what it was made from."""
        content = np.zeros(_padded(self._side, layout.kind), dtype=np.uint8)
        parts = (layout.rgb, layout.segmentation)
        joined = np.concatenate([part.reshape(-1) for part in parts if part is not None])
        content[: len(joined)] = joined
        self._pixels_stream.write(content.data)
        self._entries.append((digest, self._end, _sum(content), layout.kind, layout.label, 0, 0))
        self._end += len(content)
        if self._end - self._committed >= COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
        """Bring what was added to the disk, the pixels before the entries that say that they are there."""
        self._pixels_stream.flush()
        os.fsync(self._pixels_stream.fileno())
        entries = np.array(self._entries, dtype=ENTRY)
        entries["check"] = _checks(entries)
        self._index_stream.write(entries.tobytes())
        self._index_stream.flush()
        os.fsync(self._index_stream.fileno())
        self._committed = self._end
        self._entries.clear()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None or not issubclass(kind, OSError):
                self.commit()
        finally:
            for stream in (self._pixels_stream, self._index_stream):
                with suppress(OSError):  # of a full disk, once more
                    stream.close()
            with suppress(OSError):  # what has no entry would only take the disk
                os.truncate(self._pixels, self._committed)


def read_index(path: Path, side: int) -> NDArray[Any]:
    """Return the entries of a segment that are whole, and whose pixels are all there."""
    try:
        content = path.read_bytes()
        there = path.with_suffix(PIXELS).stat().st_size
    except FileNotFoundError:
        return np.empty(0, ENTRY)
    entries: NDArray[Any] = np.frombuffer(content[: len(content) // ENTRY.itemsize * ENTRY.itemsize], dtype=ENTRY)
    entries = entries[(entries["check"] == _checks(entries)) & (entries["kind"] < len(PIXEL_BYTES))]
    whole: NDArray[Any] = entries[_ends(entries, side) <= there]
    return whole


def clean(folder: Path, side: int) -> None:
    """Remove what killed processes have left and what is damaged, while nobody writes."""
    for index in folder.glob(f"*{INDEX}"):
        entries, pixels = read_index(index, side), index.with_suffix(PIXELS)
        if not len(entries):
            index.unlink(missing_ok=True)
            continue
        end = int(_ends(entries, side).max())
        if pixels.stat().st_size > end:
            os.truncate(pixels, end)
    for pixels in folder.glob(f"*{PIXELS}"):
        if not pixels.with_suffix(INDEX).exists():
            pixels.unlink(missing_ok=True)


def bytes_of(layouts: int, side: int, kind: int) -> int:
    """Return how much of the disk so many layouts of one kind take."""
    return layouts * (_padded(side, kind) + ENTRY.itemsize)


def as_digests(digests: Iterable[bytes]) -> NDArray[np.bytes_]:
    """Return SHA-256 digests as an array that a store can be asked for; an empty one is never found."""
    return np.array(list(digests), dtype=ENTRY["digest"])


def _padded(side: int, kind: int) -> int:
    return -(-(side**2) * PIXEL_BYTES[kind] // ALIGNED) * ALIGNED


def _ends(entries: NDArray[Any], side: int) -> NDArray[np.uint64]:
    """Return where the pixels of each entry end."""
    sizes = np.array([_padded(side, kind) for kind in range(len(PIXEL_BYTES))], dtype=np.uint64)
    ends: NDArray[np.uint64] = entries["offset"] + sizes[entries["kind"]]
    return ends


def _mapped(path: Path) -> NDArray[np.uint8]:
    """Return a file's bytes where the system has them; none where it is gone."""
    try:
        with path.open("rb") as stream:
            return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
    except (FileNotFoundError, ValueError):  # the second for an empty file
        return np.empty(0, dtype=np.uint8)


def _sum(content: NDArray[np.uint8]) -> np.uint64:
    """Return the sum of a layout's bytes in words of 64 bits, which takes a twentieth of the time of a CRC."""
    return np.uint64(content.view("<u8").sum(dtype=np.uint64) ^ SALT)


def _checks(entries: NDArray[Any]) -> NDArray[np.uint64]:
    """Return what `check` must be for each entry: a weighted sum of the words before it."""
    words = np.ascontiguousarray(entries).view("<u8").reshape(len(entries), ENTRY.itemsize // 8)[:, :-1]
    weights = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    checks: NDArray[np.uint64] = (words * weights).sum(axis=1, dtype=np.uint64) ^ SALT
    return checks
