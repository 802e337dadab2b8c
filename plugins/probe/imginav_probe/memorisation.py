"""Whether samples are copies of training layouts."""

from __future__ import annotations

import math

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from imginav.pixels import to_floats
from imginav_probe.sample_metrics import EXPECTED
from imginav_probe.windows import STEP_PIXELS, Places, TrueLayouts, Windows

CELLS = 16
"""Least number of cells along each side of a window, by whose mean colours layouts are compared."""

LEAST_CONTRAST = 0.02
"""Standard deviation of a window's colours below which it shows next to nothing and is left out."""


@frozen
class Nearest:
    """The nearest training window of each of some windows."""

    distances: Tensor  # (N), root mean square difference of the cells' colours in [-1, 1]
    places: Places


def cell_size(side: int) -> int:
    """Return the side of a cell in pixels: a power of two of at most `STEP_PIXELS`, so that windows begin at cells."""
    return min(STEP_PIXELS, 1 << int(math.log2(max(1, side // CELLS))))


def cells_of(images: Tensor) -> Tensor:
    """Return the mean colours (N, D) of the cells of square images (N, 3, H, W) in [-1, 1]."""
    return F.avg_pool2d(images, cell_size(images.shape[-1])).flatten(1)


def shows_something(cells: Tensor) -> Tensor:
    """Return which (N) of some windows show more than a flat colour."""
    return torch.gt(cells.view(len(cells), 3, -1).std(dim=2).amax(dim=1), LEAST_CONTRAST)


class TrainingCells:
    """The cells of all windows of all training layouts, as they are: not turned."""

    def __init__(self, training: TrueLayouts, windows: Windows) -> None:
        """Read all training layouts once."""
        size = cell_size(windows.side)
        self._cells: list[Tensor] = []
        corners = torch.arange(0, windows.image_size - windows.side + 1, windows.step)
        self._corners = torch.cartesian_prod(corners, corners)
        for layout in range(len(training.indices)):
            whole = Places(torch.tensor([layout]), torch.tensor([0]), torch.tensor([0]))
            image = to_floats(torch.from_numpy(training.rgb(whole, windows.image_size))).permute(0, 3, 1, 2)
            self._cells.append(F.avg_pool2d(image, size))  # whole: its windows overlap, and take many times as much
        self._unfold = nn.Unfold(windows.side // size, stride=max(1, windows.step // size))

    def nearest(self, queries: Tensor) -> Nearest:
        """Return the nearest window of each of some windows, given as cells (N, D)."""
        best = torch.full((len(queries),), math.inf)
        found = torch.zeros(3, len(queries), dtype=torch.long)
        for layout, cells in enumerate(self._cells):
            windows = self._unfold(cells)[0].T
            nearest = torch.cdist(queries, windows, compute_mode="use_mm_for_euclid_dist").min(dim=1)
            corner = self._corners[nearest.indices]
            here = torch.stack([torch.full_like(corner[:, 0], layout), corner[:, 0], corner[:, 1]])
            nearer = nearest.values < best
            best = torch.where(nearer, nearest.values, best)
            found = torch.where(nearer, here, found)
        return Nearest(best / queries.shape[1] ** 0.5, Places(*found))


def memorised_share(samples: Tensor, validation: Tensor) -> float:
    """Return the share of samples that are nearer to a training layout than all but `EXPECTED` of the new ones.

    `samples` (N) and `validation` (M) are distances to the nearest training layout; new layouts would have `EXPECTED`.
    """
    if not len(samples) or not len(validation):
        return float("nan")
    return float((samples < validation.quantile(EXPECTED)).float().mean())
