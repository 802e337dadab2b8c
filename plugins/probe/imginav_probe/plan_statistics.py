"""Properties of drawn plans, and how far their distributions over two sets of layouts lie apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import wasserstein_distance

from imginav.plugin.palette import UNMATCHED, Palette
from imginav_evaluation.pictures import Pixels
from imginav_probe.sample_metrics import LEAST_PIECE, LEAST_ROOM

WALL = "wall"
"""The class that rooms are closed by."""

EIGHT = np.ones((3, 3), dtype=bool)
"""Pixels that touch at a corner are connected."""

Statistics = Mapping[str, NDArray[np.float64]]
"""Values of each layout (N, number of values) by the name of the property."""


def nearest_classes(images: Pixels, palette: Palette) -> Pixels:
    """Return the class (N, H, W) whose colour is nearest to each pixel of RGB bytes (N, H, W, 3)."""
    classes = palette.match(images, tolerance=0)
    other = classes == UNMATCHED  # few of the pixels of drawn layouts
    classes[other] = palette.nearest(images[other][None])[0]
    return classes


def plan_statistics(classes: Pixels, palette: Palette) -> Statistics:
    """Return the properties of layouts given as class indices (N, H, W); those of walls if there is such a class."""
    wall = palette.names.index(WALL) if WALL in palette.names else None
    area = np.stack([(classes == number).mean(axis=(1, 2)) for number in range(len(palette))], axis=1)
    pieces = [[_pieces(layout == number) for number in range(len(palette))] for layout in classes]
    found = {"area": area, "pieces": np.array(pieces, dtype=float)}
    if wall is not None:
        found["rooms"] = np.array([[_rooms(layout == wall)] for layout in classes], dtype=float)
        found["wall_continuity"] = np.array([[_continuity(layout == wall)] for layout in classes])
    return found


def plan_distances(true: Statistics, other: Statistics) -> dict[str, float]:
    """Return how far properties lie apart: the 1-Wasserstein distance of their distributions, mean over classes.

    It is the least mean change that makes one distribution the other, in the unit of the property. Layouts without
    walls have no wall continuity and are left out of it.
    """
    return {
        name: float(np.mean([_wasserstein(one, two) for one, two in zip(true[name].T, other[name].T, strict=True)]))
        for name in true
    }


def _wasserstein(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one[np.isfinite(one)], other[np.isfinite(other)]
    return float(wasserstein_distance(one, other)) if len(one) and len(other) else float("nan")


def _pieces(mask: NDArray[np.bool_]) -> int:
    return _count(mask, LEAST_PIECE) if mask.any() else 0


def _rooms(wall: NDArray[np.bool_]) -> int:
    return _count(~wall, LEAST_ROOM)


def _count(mask: NDArray[np.bool_], least: int) -> int:
    labels, number = ndimage.label(mask)
    return int((np.bincount(labels.ravel(), minlength=number + 1)[1:] >= least).sum())


def _continuity(wall: NDArray[np.bool_]) -> float:
    if not wall.any():
        return float("nan")
    labels, _ = ndimage.label(wall, EIGHT)
    return float(np.bincount(labels.ravel())[1:].max() / wall.sum())
