"""The flat colours of drawn layouts: from pixels to class indices and back."""

from __future__ import annotations

import functools

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

UNMATCHED = 255
"""The class index of a pixel whose colour is that of no class; losses and metrics ignore it."""

FARTHEST = 65535
"""A squared distance of colours that no two within a tolerance have."""


@frozen(kw_only=True)
class Palette:
    """The classes of a layout in the order of their indices, each with its flat colour."""

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]  # RGB, 0 to 255, one for each name
    background: str  # the class that fills the empty parts of a layout

    def __len__(self) -> int:
        return len(self.names)

    @property
    def background_colour(self) -> tuple[int, int, int]:
        """RGB of the background, 0 to 255."""
        return self.colours[self.names.index(self.background)]

    @property
    def table(self) -> NDArray[np.uint8]:
        """RGB bytes (256, 3) by class index, not to be written to; what is no class, such as `UNMATCHED`, is black."""
        return _colour_table(self)

    def colour(self, segmentation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return class indices (..., H, W) as RGB bytes (..., H, W, 3); unmatched pixels are black."""
        coloured: NDArray[np.uint8] = self.table.take(segmentation, axis=0)  # three times as fast as by brackets
        return coloured

    def nearest(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the index of the class whose colour is nearest to each pixel of RGB bytes (H, W, 3) as (H, W).

        Nearest is by the Euclidean distance; of two that are as near, it is the class with the lower index.
        """
        differences = rgb[..., None, :].astype(np.int32) - np.array(self.colours, dtype=np.int32)
        nearest: NDArray[np.uint8] = np.square(differences).sum(axis=-1).argmin(axis=-1).astype(np.uint8)
        return nearest

    def match(self, rgb: NDArray[np.uint8], tolerance: int) -> NDArray[np.uint8]:
        """Return the class index of each pixel of RGB bytes (H, W, 3) as (H, W).

        A pixel belongs to the nearest class whose colour differs by at most `tolerance` in each channel
        (0 to 255); without one it is `UNMATCHED`.
        """
        wide = rgb.astype(np.uint32)
        codes = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
        classes: NDArray[np.uint8] = _match_table(self, tolerance).take(codes)
        return classes


@functools.lru_cache(maxsize=4)
def _colour_table(palette: Palette) -> NDArray[np.uint8]:
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette.colours
    table.setflags(write=False)  # it is shared by all who ask
    return table


@functools.lru_cache(maxsize=4)
def _match_table(palette: Palette, tolerance: int) -> NDArray[np.uint8]:
    """Return the class of each of the 2^24 colours: 16 MB that replace ten comparisons a pixel."""
    classes = np.full((256, 256, 256), UNMATCHED, dtype=np.uint8)
    # Squared: of three bytes, within the tolerance, they fit into 16 bits and are exact.
    distances = np.full((256, 256, 256), FARTHEST, dtype=np.uint16)
    for index, colour in enumerate(palette.colours):
        box = tuple(slice(max(0, c - tolerance), min(256, c + tolerance + 1)) for c in colour)
        axes = np.ogrid[box]
        red, green, blue = ((axis - c) ** 2 for axis, c in zip(axes, colour, strict=True))
        distance = red + green + blue
        nearer = distance < distances[box]
        classes[box][nearer] = index
        distances[box][nearer] = distance[nearer]
    return classes.reshape(-1)
