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

CELL = 16
"""Side in pixels of the cells for `bits_in_fullest_tenth`: what a position of the default latent stands for."""


@frozen(kw_only=True)
class LayoutBits(Metric):
    """Length in bits of a layout's class map under a lossless code that adapts to each layout."""

    @property
    def definitions(self) -> Mapping[str, str]:
        return {
            "bits_per_layout": "bits of a layout's classes under an adaptive context model, the mean over layouts: "
            "line by line, each pixel is coded as one of the distinct classes of its left, upper, upper left and "
            "upper right neighbours, or as another one, by counts for each way in which these are equal (a "
            "Krichevsky-Trofimov estimator); a property of the layouts, not of the autoencoder",
            "bits_in_fullest_tenth": "share of these bits that lie in the fullest tenth of each layout's cells of "
            f"{CELL} × {CELL} px; .1 where all cells are equally full",
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
        coded = CodedLayouts.of(torch.where(truth == UNMATCHED, self._classes, truth), self._classes + 1)
        cells = coded.bits_of_cells(CELL)
        tenth = max(1, round(cells.shape[1] / 10))
        return {
            "bits": coded.bits(),
            "bits_of_cells": cells.sum(dim=1),
            "bits_of_fullest": cells.topk(tenth, dim=1).values.sum(dim=1),
        }

    def figures(self, rows: Mapping[str, Tensor]) -> Mapping[str, float]:
        return {
            "bits_per_layout": float(rows["bits"].mean()),
            "bits_in_fullest_tenth": float(rows["bits_of_fullest"].sum() / rows["bits_of_cells"].sum()),
        }


@frozen(eq=False)
class CodedLayouts:
    """Layouts under the code, each for itself: what is coded of each pixel, and how often that occurs."""

    layouts: Tensor  # class indices (N, H, W)
    context: Tensor  # (N, H, W): in which way the neighbours are equal
    symbol: Tensor  # (N, H, W): the first neighbour of the pixel's class, or their number, where none has it
    of_contexts: Tensor  # (N, contexts, symbols): how often each symbol occurs in each context
    of_new: Tensor  # (N, classes): how often each class occurs where no neighbour has it

    @classmethod
    def of(cls, layouts: Tensor, classes: int) -> CodedLayouts:
        """Count what is coded of class indices (N, H, W) below `classes`."""
        context, symbol = _contexts_and_symbols(layouts)
        symbols = len(NEIGHBOURS) + 1
        of_contexts = _histograms(context * symbols + symbol, len(NEIGHBOURS) ** len(NEIGHBOURS) * symbols)
        # Outside of the others, a class that no neighbour has.
        new = torch.where(symbol == len(NEIGHBOURS), layouts, classes)
        of_new = _histograms(new, classes + 1)[:, :classes]
        return cls(layouts, context, symbol, of_contexts.view(len(layouts), -1, symbols), of_new)

    def bits(self) -> Tensor:
        """Return the bits (N,) of each layout.

        An adaptive coder learns the counts as it goes. How many bits it spends in a context does not depend on the
        order in which the symbols came, so they follow from the counts at the end.
        """
        of_contexts = _bits_of_counts(self.of_contexts, _possible_symbols(self.layouts.device)).sum(dim=1)
        return of_contexts + _bits_of_counts(self.of_new, torch.ones_like(self.of_new[0], dtype=torch.bool))

    def bits_of_cells(self, side: int) -> Tensor:
        """Return the bits (N, cells) of squares of `side` pixels, coded with the final counts from the start.

        So the cells that are coded first do not pay for learning the counts. Those at the edges may be smaller.
        """
        possible = _possible_symbols(self.layouts.device)
        of_symbols = _bits_of_each(self.of_contexts, possible).flatten(1)
        of_classes = _bits_of_each(self.of_new, torch.ones_like(self.of_new[0], dtype=torch.bool))
        place = (self.context * possible.shape[1] + self.symbol).flatten(1)
        bits = of_symbols.gather(1, place)
        bits += torch.where(
            self.symbol.flatten(1) == len(NEIGHBOURS), of_classes.gather(1, self.layouts.flatten(1)), 0.0
        )
        height, width = self.layouts.shape[1:]
        padded = F.pad(bits.view(-1, 1, height, width), (0, -width % side, 0, -height % side))
        return F.avg_pool2d(padded, side).flatten(1) * side**2


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


def _bits_of_each(counts: Tensor, possible: Tensor) -> Tensor:
    """Return the bits of each symbol (…, K) where these counts, with `PRIOR` more for each, are its probabilities."""
    expected = (counts + PRIOR) * possible
    return -(expected / expected.sum(dim=-1, keepdim=True)).log2().nan_to_num(neginf=0.0)
