"""When a curve of quality reaches a level, and where it stands at a moment: the figures of a comparison.

Nothing here is extrapolated: what was not measured is none.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from attrs import frozen

from imginav_benches.quality import Point


@frozen(kw_only=True)
class Versus:
    """A run beside the first arm's run with the same seed."""

    seed: int
    level: float  # the MSE of the weights that the first arm's run left
    their_seconds: float  # that it was trained
    reached_seconds: float | None  # of training, at the first point that is no worse; none: it never was
    at_seconds: float  # of training, that both have had
    mse_ratio: float | None  # of the first arm's MSE at that time to this run's; none: one had no point before

    @property
    def time_ratio(self) -> float | None:
        """The time to reach the level over the time that the first arm's run was trained."""
        return None if self.reached_seconds is None else self.reached_seconds / self.their_seconds


@frozen(kw_only=True)
class Spread:
    """A figure over the seeds."""

    median: float
    least: float
    most: float
    count: int


def versus(points: Sequence[Point], theirs: Sequence[Point], their_final_mse: float, seed: int) -> Versus:
    """Return how a run does beside the first arm's."""
    end = min(points[-1].seconds, theirs[-1].seconds)
    own, other = value_at(points, end, "val_mse"), value_at(theirs, end, "val_mse")
    return Versus(
        seed=seed,
        level=their_final_mse,
        their_seconds=theirs[-1].seconds,
        reached_seconds=reached(points, their_final_mse),
        at_seconds=end,
        mse_ratio=None if own is None or other is None or own == 0 else other / own,
    )


def reached(points: Iterable[Point], level: float) -> float | None:
    """Return the seconds of training at the first point whose MSE is at most `level`, or none.

    The level may have been reached a little earlier; between two points nothing is known.
    """
    return next((point.seconds for point in points if point.val_mse <= level), None)


def value_at(points: Sequence[Point], seconds: float, figure: str) -> float | None:
    """Return a figure after some seconds of training, interpolated between the points before and after; or none.

    The MSE, which falls over orders of magnitude, is interpolated in its logarithm.
    """
    place = bisect_left(points, seconds, key=lambda point: point.seconds)
    if place == len(points):
        return None
    after: float = getattr(points[place], figure)
    if points[place].seconds == seconds:
        return after
    if place == 0:
        return None
    before: float = getattr(points[place - 1], figure)
    span = points[place].seconds - points[place - 1].seconds
    share = (seconds - points[place - 1].seconds) / span
    if figure == "val_mse" and before > 0 and after > 0:
        return before * math.exp(share * math.log(after / before))
    return before + share * (after - before)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return the median and the range of a figure over the seeds, or none where one of them has none."""
    known = list(values)
    finite = [value for value in known if value is not None and math.isfinite(value)]
    if not finite or len(finite) < len(known):
        return None
    return Spread(median=statistics.median(finite), least=min(finite), most=max(finite), count=len(finite))
