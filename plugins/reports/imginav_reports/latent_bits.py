"""What a latent can carry beside what a layout holds, in bits."""

from __future__ import annotations

import math

from attrs import frozen

from imginav.runs.evaluation_result import EvaluationResult

OVERSIZED = 4.0
"""Times the bits of a layout that a latent can carry, from which it is called oversized."""


@frozen(kw_only=True)
class LatentBits:
    """Bits of a layout, and of the latent at some noise."""

    content: float  # of a layout's class map under lossless coding
    capacity: float  # of its latent, under Gaussian noise of `level`
    level: float  # standard deviation of the noise, in standard deviations of the latent
    fullest: float | None = None  # share of the content in the fullest tenth of the cells; none: not measured

    @property
    def ratio(self) -> float:
        return self.capacity / self.content

    @property
    def ratio_where_fullest(self) -> float | None:
        """The ratio for the fullest tenth of the cells and a tenth of the latent."""
        return None if self.fullest is None else 0.1 * self.capacity / (self.fullest * self.content)

    @property
    def is_oversized(self) -> bool:
        """Whether it can carry far more than a layout holds, and enough where the layout is fullest."""
        return self.ratio >= OVERSIZED and (self.ratio_where_fullest is None or self.ratio_where_fullest >= 1)

    @property
    def line(self) -> str:
        """The figures as a line of a table."""
        fullest = "" if self.fullest is None else f" ({self.ratio_where_fullest:.2g}× in the fullest tenth)"
        oversized = ", oversized" if self.is_oversized else ""
        return (
            f"{_kilobits(self.content)} in a layout, {_kilobits(self.capacity)} at most in its latent at noise of "
            f"{self.level:g} standard deviations: {self.ratio:.2g}×{fullest}{oversized}"
        )

    @property
    def summary(self) -> str:
        """The figures in a sentence or two."""
        fullest = ""
        if self.fullest is not None:
            fullest = (
                f" The fullest tenth of a layout has {self.fullest:.0%} of its bits, and a tenth of the latent can "
                f"carry {self.ratio_where_fullest:.2g} times as much."
            )
        oversized = " It is oversized: fewer channels or cells may do." if self.is_oversized else ""
        return (
            f"A layout holds {_kilobits(self.content)}, and its latent can carry {_kilobits(self.capacity)} at noise "
            f"of {self.level:g} standard deviations, {self.ratio:.2g} times as much.{fullest}{oversized}"
        )


def latent_bits(evaluation: EvaluationResult) -> LatentBits | None:
    """Return the bits of layouts and latent; none where the layouts have no classes, or no noise was tried.

    The noise is the strongest that was tried on the latent, as diffusion leaves some in what it samples. What a channel
    carries is the capacity of a Gaussian one (Shannon, 1949): ½ log₂(1 + (its std / the noise's)²) bits in each cell.
    """
    content = evaluation.metrics.get("val_bits_per_layout")
    latent = evaluation.latent_statistics
    levels = [noise.level for noise in latent.noise if noise.level] if latent else []
    if not content or not latent or not levels or not latent.std > 0:
        return None
    noise = max(levels) * latent.std
    height, width, _ = evaluation.latent
    of_cell = sum(0.5 * math.log2(1 + (channel.std / noise) ** 2) for channel in latent.channels)
    return LatentBits(
        content=content,
        capacity=height * width * of_cell,
        level=max(levels),
        fullest=evaluation.metrics.get("val_bits_in_fullest_tenth"),
    )


def _kilobits(bits: float) -> str:
    return f"{bits / 1000:.3g} kbit" if bits >= 1000 else f"{bits:.3g} bits"
