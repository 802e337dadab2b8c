"""The information in a layout: the length of its class map in bits under lossless coding."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from imginav import CannotMeasure, DataSpec, Measurement, Metric
from imginav.plugin import UNMATCHED

NEIGHBOURS = ((0, -1), (-1, 0), (-1, -1), (-1, 1))
"""Of a pixel, rows down and columns to the right: those that are read before it, line by line."""

PRIOR = 0.5
"""Count that each symbol starts with (Krichevsky & Trofimov, 1981)."""


@frozen(kw_only=True)
class LayoutBits(Metric):
    """Length in bits of a layout's class map under a lossless code that adapts to each layout."""

    @property
    def definitions(self) -> Mapping[str, str]:
        return {
            "bits_per_layout": "bits of a layout's classes under an adaptive context model, the mean over layouts: "
            "line by line, each pixel is coded as one of the distinct classes of its left, upper, upper left and "
            "upper right neighbours, or as another one, by counts for each way in which these are equal (a "
            "Krichevsky-Trofimov estimator); a property of the layouts, not of the autoencoder"
        }

    def build(self, spec: DataSpec, outputs: Collection[str], image_size: int) -> Measurement:
        if "segmentation" not in spec.targets:
            raise CannotMeasure("the data set does not say which class a pixel is of")
        return LayoutBitsRows(len(spec.palette))


class LayoutBitsRows(Measurement):
    """Keeps the bits of each layout."""

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def rows(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        truth = batch["segmentation"]
        return {"bits": bits_of(torch.where(truth == UNMATCHED, self._classes, truth), self._classes + 1)}

    def figures(self, rows: Mapping[str, Tensor]) -> Mapping[str, float]:
        return {"bits_per_layout": float(rows["bits"].mean())}


def bits_of(layouts: Tensor, classes: int) -> Tensor:
    """Return the bits (N,) in which class indices (N, H, W) below `classes` are coded, each layout for itself.

    An adaptive coder learns the counts as it goes. How many bits it spends in a context does not depend on the order in
    which the symbols came, so they follow from the counts at the end.
    """
    context, symbol = _contexts_and_symbols(layouts)
    symbols = len(NEIGHBOURS) + 1
    counts = _histograms(context * symbols + symbol, len(NEIGHBOURS) ** len(NEIGHBOURS) * symbols)
    possible = _possible_symbols(layouts.device)
    of_contexts = _bits_of_counts(counts.view(len(layouts), -1, symbols), possible).sum(dim=1)
    # Outside of the others, a class that no neighbour has.
    new = torch.where(symbol == len(NEIGHBOURS), layouts, classes)
    of_new = _histograms(new, classes + 1)[:, :classes]
    return of_contexts + _bits_of_counts(of_new, torch.ones(classes, dtype=torch.bool, device=layouts.device))


def _contexts_and_symbols(layouts: Tensor) -> tuple[Tensor, Tensor]:
    """Return how the neighbours of each pixel are equal, and the first that has its class: two tensors (N, H, W)."""
    _, height, width = layouts.shape
    padded = F.pad(layouts.int() + 1, (1, 1, 1, 0))  # 0 outside
    neighbours = [padded[:, 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in NEIGHBOURS]
    pixels = padded[:, 1:, 1:-1]
    context = torch.zeros_like(layouts, dtype=torch.int64)
    symbol = torch.full_like(context, len(NEIGHBOURS))
    for number in reversed(range(len(NEIGHBOURS))):
        first_equal = torch.full_like(context, number)
        for earlier in reversed(range(number)):
            first_equal.masked_fill_(neighbours[earlier] == neighbours[number], earlier)
        context = context * len(NEIGHBOURS) + first_equal
        symbol.masked_fill_(pixels == neighbours[number], number)
    return context, symbol


def _possible_symbols(device: torch.device) -> Tensor:
    """Return which symbols there are in each context: neighbours that are no repetition, and the class of none."""
    contexts = torch.arange(len(NEIGHBOURS) ** len(NEIGHBOURS), device=device)[:, None]
    numbers = torch.arange(len(NEIGHBOURS), device=device)
    firsts = contexts // len(NEIGHBOURS) ** numbers % len(NEIGHBOURS) == numbers
    return F.pad(firsts, (0, 1), value=True)


def _histograms(values: Tensor, size: int) -> Tensor:
    """Return how often each number below `size` occurs in each of some tensors (N, …), as fp64 (N, size)."""
    own = torch.arange(len(values), device=values.device).view(-1, *[1] * (values.dim() - 1)) * size
    return torch.bincount((values + own).flatten(), minlength=len(values) * size).view(len(values), size).double()


def _bits_of_counts(counts: Tensor, possible: Tensor) -> Tensor:
    """Return the bits in which symbols (…, K) are coded that occur so often, each with a count of `PRIOR` before."""
    prior = PRIOR * possible.sum(dim=-1).double()
    each = torch.lgamma(counts + PRIOR) - math.lgamma(PRIOR)
    nats = torch.lgamma(prior + counts.sum(dim=-1)) - torch.lgamma(prior) - (each * possible).sum(dim=-1)
    return nats / math.log(2)
