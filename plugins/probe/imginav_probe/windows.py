"""Windows of layouts and of their latents: what the probe trains on, and compares its samples with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from imginav.data.batches import rgb_of
from imginav.plugin.components import LayoutSource, Sample
from imginav_evaluation.pictures import Pixels

STEP_PIXELS = 32
"""Windows begin at multiples of so many pixels, which are whole cells of latents of up to five halvings."""

LEAST_STD = 1e-3
"""Least divisor of a channel, in standard deviations of the whole latent, so that a dead channel stays small."""


AT_ONCE = 256
"""Layouts whose latents are held as floats at a time."""


@frozen
class Places:
    """Squares in a set of layouts: which layout each lies in, and its upper left corner in pixels."""

    layouts: Tensor  # (N), positions in the set
    tops: Tensor  # (N)
    lefts: Tensor  # (N)

    def __len__(self) -> int:
        return len(self.layouts)

    def at(self, which: slice | Tensor) -> Places:
        """Return some of the squares."""
        return Places(self.layouts[which], self.tops[which], self.lefts[which])


@frozen(kw_only=True)
class Windows:
    """Squares of one size, in layouts of one size."""

    image_size: int  # side of a layout in pixels
    side: int  # of a window, in pixels
    step: int  # windows begin at multiples of so many pixels

    def draw(self, count: int, layouts: Sequence[int], generator: torch.Generator) -> Places:
        """Return random windows of some layouts, each layout as often as the others."""
        rounds = -(-count // len(layouts))
        order = torch.cat([torch.randperm(len(layouts), generator=generator) for _ in range(rounds)])[:count]
        places = (self.image_size - self.side) // self.step + 1
        corners = torch.randint(places, (2, count), generator=generator) * self.step
        return Places(torch.tensor(layouts)[order], corners[0], corners[1])


class TrueLayouts:
    """The layouts of a data set that latents were made of."""

    def __init__(self, source: LayoutSource, indices: Sequence[int]) -> None:
        """Take the layouts of a source by their indices there; `Places` count positions among these."""
        self.source = source
        self.indices = tuple(indices)

    def rgb(self, places: Places, side: int) -> Pixels:
        """Return windows (N, side, side, 3) as RGB bytes."""
        palette = self.source.spec.palette
        return np.stack([rgb_of(self._cut(*place, side), palette) for place in _each(places)])

    def classes(self, places: Places, side: int) -> Pixels:
        """Return windows (N, side, side) as class indices; 255 where no class matches."""
        return np.stack([self._cut(*place, side)["segmentation"] for place in _each(places)])

    def _cut(self, position: int, top: int, left: int, side: int) -> Sample:
        """Return a window of everything that has pixels."""
        layout = self.source.read(self.indices[position])
        part = slice(top, top + side), slice(left, left + side)
        return {name: array[part] for name, array in layout.items() if array.ndim >= 2}


class LatentWindows:
    """The latents of layouts, standardised per channel."""

    def __init__(
        self, mean: Tensor, log_variance: Tensor | None, factor: int, like: LatentWindows | None = None
    ) -> None:
        """Take means, and of a variational encoder log-variances, (N, C, h, w), of `factor` pixels to a cell.

        They are standardised by their own means and standard deviations, or `like` others.
        """
        self._mean, self._log_variance, self.factor = mean, log_variance, factor
        moments = (like.means, like.stds) if like else _moments(mean, log_variance)
        self.means: Tensor = moments[0]
        self.stds: Tensor = moments[1]

    @property
    def channels(self) -> int:
        return self._mean.shape[1]

    def cells(self, side: int) -> int:
        """Return the side of a window of so many pixels, in cells."""
        return side // self.factor

    def of(self, places: Places, side: int, generator: torch.Generator | None = None) -> Tensor:
        """Return windows (N, C, s, s), standardised; with a generator those of a variational encoder are drawn."""
        mean = self._cut(self._mean, places, side)
        if self._log_variance is not None and generator is not None:
            std = torch.exp(0.5 * self._cut(self._log_variance, places, side))
            mean = mean + std * torch.randn(mean.shape, generator=generator)
        return (mean - self.means) / self.stds

    def restored(self, standardised: Tensor) -> Tensor:
        """Return standardised windows as the latents that a decoder takes."""
        return standardised * self.stds.to(standardised.device) + self.means.to(standardised.device)

    def _cut(self, values: Tensor, places: Places, side: int) -> Tensor:
        cells = self.cells(side)
        return torch.stack(
            [
                values[n, :, top // self.factor :, left // self.factor :][:, :cells, :cells]
                for n, top, left in _each(places)
            ]
        ).float()


def _each(places: Places) -> Iterator[tuple[int, int, int]]:
    return zip(places.layouts.tolist(), places.tops.tolist(), places.lefts.tolist(), strict=True)


def _moments(mean: Tensor, log_variance: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (C, 1, 1) of each channel, of drawn latents where they can be drawn.

    They are summed up part by part, since all latents as floats may not fit into memory.
    """
    channels = mean.shape[1]
    count, total, squares = 0, torch.zeros(channels).double(), torch.zeros(channels).double()
    for number, part in enumerate(torch.split(mean, AT_ONCE)):
        values = part.double()
        count += values.numel() // channels
        total += values.sum(dim=(0, 2, 3))
        squares += values.square().sum(dim=(0, 2, 3))
        if log_variance is not None:
            squares += log_variance[number * AT_ONCE :][: len(part)].double().exp().sum(dim=(0, 2, 3))
    variances = (squares / count - (total / count).square()).clamp(min=0)
    floor = LEAST_STD * max(float(variances.mean().sqrt()), 1e-12)
    return (total / count).float()[:, None, None], variances.sqrt().clamp(min=floor).float()[:, None, None]
