"""The colours of many images: how often each one occurs, and which have no class."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from imginav.plugin import UNMATCHED, Palette

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

CODES = 2**24
"""The number of colours of 8 bits a channel."""

NEAR = 60
"""Largest difference in a channel at which a colour is called near to a class: that of the largest `data.tolerance`."""


@frozen
class ColourShare:
    """A colour and the share of all counted pixels that have it."""

    colour: Colour
    share: float  # 0 to 1


class ColourCounts:
    """Counts the pixels of each colour over many images, without keeping the images."""

    def __init__(self) -> None:
        self._pixels = np.zeros(CODES, dtype=np.int64)  # by colour code; pages that nothing touches take no memory
        self._images = np.zeros(CODES, dtype=np.int32)
        self.images = 0
        self.pixels = 0

    def add(self, colours: NDArray[np.uint32], pixels: NDArray[np.int64]) -> None:
        """Count one image by the codes of its colours and their pixels, as `colours_of` returns them."""
        self._pixels[colours] += pixels
        self._images[colours] += 1
        self.images += 1
        self.pixels += int(pixels.sum())

    def commonest(self, number: int) -> list[ColourShare]:
        """Return the colours with the most pixels, the commonest first."""
        codes = np.flatnonzero(self._pixels)
        counts = self._pixels[codes]
        order = np.lexsort((codes, -counts))[:number]
        return [ColourShare(colour_of(int(codes[i])), float(counts[i] / self.pixels)) for i in order]

    def images_with(self, colour: Colour) -> int:
        """Return how many of the images have a colour."""
        return int(self._images[code_of(colour)])

    def counted(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return all colours (N, 3) that occur, and the pixels of each (N)."""
        codes = np.flatnonzero(self._pixels)
        channels = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
        return channels, self._pixels[codes]


def colours_of(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the codes of the colours of RGB bytes (..., 3), each once, and the pixels of each."""
    wide = rgb.reshape(-1, 3).astype(np.uint32)
    return np.unique((wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2], return_counts=True)


def code_of(colour: Colour) -> int:
    """Return a colour as one number, red in the highest byte."""
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def colour_of(code: int) -> Colour:
    """Return the colour of a code."""
    return code >> 16, code >> 8 & 255, code & 255


def hex_of(colour: Colour) -> str:
    """Return a colour as `#rrggbb`."""
    return f"#{code_of(colour):06x}"


def distance(one: Colour, other: Colour) -> int:
    """Return the largest difference of two colours in a channel, which is what `data.tolerance` is compared with."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


@frozen
class Unmatched:
    """The pixels of no class in some images."""

    images: int  # that were looked at
    share: float  # of all their pixels
    commonest: tuple[ColourShare, ...]  # colours of no class, the commonest first, as shares of all pixels


def unmatched_in(images: Iterable[NDArray[np.uint8]], palette: Palette, tolerance: int, listed: int = 5) -> Unmatched:
    """Return the pixels of images (H, W, 3) that have the colour of no class, with the `listed` commonest colours."""
    found, pixels, number = ColourCounts(), 0, 0
    for rgb in images:
        number += 1
        pixels += rgb.shape[0] * rgb.shape[1]
        found.add(*colours_of(rgb[palette.match(rgb, tolerance) == UNMATCHED]))
    share = found.pixels / pixels if pixels else 0.0
    commonest = found.commonest(listed) if found.pixels else []
    return Unmatched(number, share, tuple(ColourShare(c.colour, c.share * share) for c in commonest))


def nearest_class(palette: Palette, colour: Colour) -> str:
    """Return which class a colour is near to, and by how much it is off; empty where none is near."""
    off, name, its = min(
        (distance(colour, its), name, its) for name, its in zip(palette.names, palette.colours, strict=True)
    )
    return f"{off} off {name} {its}" if off <= NEAR else ""
