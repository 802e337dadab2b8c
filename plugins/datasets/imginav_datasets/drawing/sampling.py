"""How well a layout was sampled: with chipped edges, or so sparsely that it dissolves into squares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imginav_datasets.classes import LayoutClass

BACKGROUND = int(LayoutClass.BACKGROUND)
WALL = int(LayoutClass.WALL)

SPARSE_SHARE = 0.06
"""Of layouts that were sampled so sparsely that they dissolve into squares, in part at least."""

CHIPPED_SHARE = 0.3
"""Of layouts whose edges are all ragged, those of the walls too."""

Classes = NDArray[np.uint8]


def sample(classes: Classes, rng: np.random.Generator) -> Classes:
    """Return the layout as its points were sampled: mostly dense, seldom as single squares."""
    kind = rng.random()
    if kind < SPARSE_SHARE:
        return _dissolve(classes, rng)
    if kind < SPARSE_SHARE + CHIPPED_SHARE:
        return _chip(classes, rng)
    return classes


def _dissolve(classes: Classes, rng: np.random.Generator) -> Classes:
    """Keep squares along the edges and, fewer, inside; at times of the walls or of the furniture alone."""
    unit = classes.shape[0] / 512
    side = max(1, round(float(rng.uniform(2.5, 6.5)) * unit))
    which = rng.random()
    there = classes != BACKGROUND
    if which < 0.2:
        there &= classes != WALL
    elif which < 0.3:
        there &= classes == WALL
    sparse = np.where(there, np.uint8(BACKGROUND), classes)
    edges = there & _edges(classes)
    # One square in so many pixels of edge: from rows of squares that touch to a few lost ones.
    for places, pixels in (
        (np.flatnonzero(edges), float(rng.uniform(3, 30)) * unit),
        (np.flatnonzero(there), float(np.exp(rng.uniform(np.log(40), np.log(900)))) * unit**2),
    ):
        count = min(4000, int(len(places) / max(1.0, pixels)))
        _stamp(sparse, classes, rng.choice(places, size=count, replace=True) if count else places[:0], side)
    return sparse


def _chip(classes: Classes, rng: np.random.Generator) -> Classes:
    """Make all edges ragged: at random places of them the one side grows into the other."""
    unit = classes.shape[0] / 512
    side = max(1, round(float(rng.uniform(2, 6)) * unit))
    places = np.flatnonzero(_edges(classes))
    count = int(len(places) * rng.uniform(0.01, 0.12) / max(1.0, side / 2))
    chipped = classes.copy()
    if count:
        _stamp(chipped, classes, rng.choice(places, size=count, replace=True), side)
    return chipped


def _edges(classes: Classes) -> NDArray[np.bool_]:
    """Tell which pixels have another class to their right or below, or to their left or above."""
    edges = np.zeros(classes.shape, dtype=np.bool_)
    beside = classes[:, 1:] != classes[:, :-1]
    below = classes[1:] != classes[:-1]
    edges[:, 1:] = beside
    edges[:, :-1] |= beside
    edges[1:] |= below
    edges[:-1] |= below
    return edges


def _stamp(target: Classes, classes: Classes, places: NDArray[np.int64], side: int) -> None:
    """Put a square of the class that is at each place around it."""
    size = classes.shape[0]
    values = classes.reshape(-1)[places]
    rows, columns = np.divmod(places, size)
    first = -(side // 2)
    for down in range(first, first + side):
        row = np.clip(rows + down, 0, size - 1)
        for across in range(first, first + side):
            target[row, np.clip(columns + across, 0, size - 1)] = values
