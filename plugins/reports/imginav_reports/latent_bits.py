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

    content: float  # of a layout's classes, coded without a loss
    capacity: float  # of its latent, under Gaussian noise of `level`
    level: float  # standard deviation of the noise, in standard deviations of the latent
    fullest: float | None = None  # share of the content in the fullest tenth of the cells; none: not measured

    @property
    def ratio(self) -> float:
        return self.capacity / self.content

    @property
    def crowding(self) -> float | None:
        """Times as many bits in the fullest tenth of the cells as a tenth of the latent can carry."""
        return None if self.fullest is None else self.fullest * self.content / (0.1 * self.capacity)

    @property
    def is_oversized(self) -> bool:
        """Whether it can carry far more than the layouts hold, also where they are fullest."""
        return self.ratio >= OVERSIZED and (self.crowding or 0.0) <= 1

    @property
    def line(self) -> str:
        """The figures as a line of a table."""
        crowding = "" if self.crowding is None else f" ({1 / self.crowding:.2g}× in the fullest tenth)"
        oversized = ", oversized" if self.is_oversized else ""
        return (
            f"{_kilobits(self.content)} in a layout, {_kilobits(self.capacity)} at most in its latent at noise of "
            f"{self.level:g} standard deviations: {self.ratio:.2g}×{crowding}{oversized}"
        )

    @property
    def summary(self) -> str:
        """The figures in a sentence or two."""
        oversized = ": it is oversized, and fewer channels or cells may do" if self.is_oversized else ""
        said = (
            f"A layout holds {_kilobits(self.content)}, and its latent can carry {_kilobits(self.capacity)} at noise "
            f"of {self.level:g} standard deviations, {self.ratio:.2g} times as much{oversized}."
        )
        if self.fullest is None or self.crowding is None:
            return said
        if self.crowding > 1:
            return (
                f"{said} But a tenth of the layout has {self.fullest:.0%} of its bits: {self.crowding:.2g} times what "
                "a tenth of the latent can carry."
            )
        return (
            f"{said} Also the fullest tenth of the layout, with {self.fullest:.0%} of its bits, fits "
            f"{1 / self.crowding:.2g} times into a tenth of the latent."
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
