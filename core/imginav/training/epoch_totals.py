"""The running totals of an epoch."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field
from torch import Tensor


@define(kw_only=True)
class EpochTotals:
    """What an epoch has gathered so far; it is saved, so that an epoch that is entered again goes on with it."""

    learning_rate: float  # of its first step
    batches: int = 0  # read, whether they led to a step or not
    images: int = 0  # in the batches that led to steps
    seconds: float = 0.0  # in which these were taken
    sums: dict[str, Tensor] = field(factory=dict)  # of each loss term over its images, on the device
    counts: dict[str, int] = field(factory=dict)  # of these images; fewer where a loss came in within the epoch

    def add(self, terms: Mapping[str, Tensor], images: int) -> None:
        """Take in the terms of a step."""
        # Summed where they are: reading a value at each step would make a GPU wait.
        self.sums = {name: self.sums.get(name, 0.0) + term * images for name, term in terms.items()}
        self.counts = {name: self.counts.get(name, 0) + images for name in terms}
        self.images += images

    @property
    def means(self) -> dict[str, float]:
        """The mean of each loss term over its images."""
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}
