"""How well samples keep the walls that they were given."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from scipy import ndimage

TOLERANCE = np.ones((3, 3), dtype=bool)
"""A pixel counts as kept if it lies at most 1 pixel off, in any of the eight directions."""


@frozen
class Kept:
    """How much of given walls came back, and how much of what came back was given."""

    recall: float
    precision: float


def walls_kept(given: NDArray[np.bool_], found: NDArray[np.bool_]) -> Kept:
    """Return recall and precision at 1 pixel of walls (N, H, W), as masks; over the pixels of all windows together."""
    near_found = np.stack([ndimage.binary_dilation(mask, TOLERANCE) for mask in found])
    near_given = np.stack([ndimage.binary_dilation(mask, TOLERANCE) for mask in given])
    return Kept(
        recall=float((given & near_found).sum() / max(1, given.sum())),
        precision=float((found & near_given).sum() / max(1, found.sum())),
    )
