"""Four rules by which an experiment wins.

None of them depends on the order of the experiments, and an experiment that is worse than another in everything
changes nothing: quality is measured from the best one alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from attrs import field, frozen

from imginav import Candidate, Choice, Selector, UserError
from imginav.plugin import apart, at_least, between


@frozen(kw_only=True)
class Best(Selector):
    """The best value of one metric; of those that are level with it, the smallest and fastest."""

    @property
    def rule(self) -> str:
        return f"best {self.metric} ({self.mode})"

    def select(self, candidates: Sequence[Candidate]) -> Choice:
        levels = self.levelled(candidates)
        best = self.best(candidates)
        level = [candidate for candidate in candidates if levels[candidate.name] == best.mean]
        winner = min(level, key=lambda candidate: candidate.size)
        if winner is best:
            return Choice(winner=winner.name, because=f"its {self.metric} of {best.mean:.4g} is the best")
        ours, theirs = apart(winner.mean, best.mean)
        return Choice(
            winner=winner.name,
            because=f"its {self.metric} of {ours} is level with {best.name}'s {theirs}, whose seeds lie "
            f"{best.spread:.2g} apart, and it is the smallest and fastest of {len(level)} level ones",
        )


@frozen(kw_only=True)
class SmallestGoodEnough(Selector):
    """The fewest latent dimensions, unless more of them buy an improvement that is worth it."""

    improvement: float = field(default=0.1, validator=between(0, 1))  # the least that buys a larger one; 0.1: 10 %

    @property
    def rule(self) -> str:
        return f"smallest_good_enough {self.improvement * 100:g} %"

    def select(self, candidates: Sequence[Candidate]) -> Choice:
        levels = self.levelled(candidates)
        best = self.best(candidates)
        gains = {candidate.name: self.gain(levels[candidate.name], best.mean) for candidate in candidates}
        enough = [candidate for candidate in candidates if gains[candidate.name] <= self.improvement]
        winner = min(enough, key=lambda candidate: candidate.size)
        if winner is best:
            smaller = sum(candidate.size < best.size for candidate in candidates)
            than = "each smaller one" if smaller > 1 else "the smaller one"
            reason = f"more than {self.improvement:.0%} better than that of {than}" if smaller else "the best"
            return Choice(winner=winner.name, because=f"its {self.metric} of {best.mean:.4g} is {reason}")
        ours, theirs = apart(winner.mean, best.mean)
        # Where both have the same latent, it is the wider network that buys so little.
        key = "parameters" if winner.latent_dimensions == best.latent_dimensions else "latent_dimensions"
        return Choice(
            winner=winner.name,
            because=f"it has {getattr(winner, key):,} {key.replace('_', ' ')}, and {best.name}'s "
            f"{getattr(best, key):,} buy only "
            f"{gains[winner.name]:.1%} in {self.metric} ({theirs} against {ours})",
        )


@frozen(kw_only=True)
class Gated(Selector):
    """The best value of one metric among the experiments that are good enough by another, such as the MSE.

    An experiment passes the gate if its value is at most `factor` times worse than the best one's or, if `limit` is
    given, no worse than `limit`. Among those that pass, the best metric wins; of level ones, the smallest and fastest.
    """

    metric: str = "probe_fdd"  # what decides among those that pass
    gate: str = "val_mse"  # the metric of the gate
    gate_mode: Literal["min", "max"] = "min"  # whether less or more of it is better
    factor: float = field(default=1.5, validator=at_least(1))  # how many times worse than the best may still pass
    limit: float | None = None  # the worst value that passes, in place of `factor`; none: `factor` decides

    @property
    def metrics(self) -> dict[str, str]:
        return {"metric": self.metric, "gate": self.gate}

    @property
    def rule(self) -> str:
        sign = "≤" if self.gate_mode == "min" else "≥"
        passes = f"{self.gate} {sign} {self.limit:g}" if self.limit is not None else f"{self.gate} × {self.factor:g}"
        return f"gated {self.metric} ({self.mode}), {passes}"

    def select(self, candidates: Sequence[Candidate]) -> Choice:
        values = {candidate.name: candidate.figures[self.gate] for candidate in candidates}
        best = min(values.values()) if self.gate_mode == "min" else max(values.values())
        sign = 1 if self.gate_mode == "min" else -1
        bound = best * self.factor**sign if best > 0 else best  # what has no ratio passes only where it is the best
        if self.limit is not None:
            bound = self.limit
        passed = [candidate for candidate in candidates if sign * values[candidate.name] <= sign * bound]
        if not passed:
            raise UserError(
                f"sweep.selector.limit = {self.limit:g}: no experiment passes, the best {self.gate} is {best:.4g}; "
                "choose another limit, or leave it out, and sweep.selector.factor decides"
            )
        choice = Best(metric=self.metric, mode=self.mode).select(passed)
        out = ", ".join(sorted(candidate.name for candidate in candidates if candidate not in passed))
        gate = f"{self.gate} {'≤' if sign > 0 else '≥'} {bound:.4g}"
        kept = f"{out} did not pass {gate}" if out else f"all pass {gate}"
        return Choice(winner=choice.winner, because=f"{choice.because}; {kept}")


@frozen(kw_only=True)
class Pareto(Selector):
    """Quality against latent dimensions, and latency where it is measured; of the front, the best by stated weights.

    The score, of which the least wins, is quality · ln(metric) + dimensions · ln(latent dimensions) + latency ·
    ln(milliseconds): with equal weights, half the error is worth twice the latent.
    """

    quality: float = field(default=1.0, validator=at_least(0))  # weight of the metric
    dimensions: float = field(default=0.5, validator=at_least(0))  # weight of the latent's dimensions
    latency: float = field(default=0.0, validator=at_least(0))  # weight of the time for one layout, where measured

    @property
    def rule(self) -> str:
        weights = {"quality": self.quality, "dimensions": self.dimensions, "latency": self.latency}
        return f"pareto {', '.join(f'{name} {weight:g}' for name, weight in weights.items() if weight)}"

    def select(self, candidates: Sequence[Candidate]) -> Choice:
        levels = self.levelled(candidates)
        if wrong := [candidate for candidate in candidates if levels[candidate.name] < 0]:
            raise UserError(
                f"sweep.selector: pareto takes the logarithm of {self.metric}, which is {wrong[0].mean:.4g} for "
                f"{wrong[0].name}; choose a metric above 0, such as val_mse"
            )
        timed = self.latency > 0 and all(candidate.latency_ms for candidate in candidates)
        costs = {
            candidate.name: self._costs(candidate, levels[candidate.name], timed=timed) for candidate in candidates
        }
        front = [
            candidate
            for candidate in candidates
            if not any(_dominates(costs[o.name], costs[candidate.name]) for o in candidates)
        ]
        scores = {candidate.name: self._score(costs[candidate.name]) for candidate in front}
        winner = min(front, key=lambda candidate: (scores[candidate.name], candidate.size))
        names = tuple(candidate.name for candidate in sorted(front, key=lambda candidate: candidate.size))
        because = (
            f"with {self.metric} {winner.mean:.4g} and {winner.latent_dimensions:,} latent dimensions it has the least "
            f"score of the front ({', '.join(names)})"
        )
        if self.latency > 0 and not timed:
            because += "; latency was not measured for all, and does not count"
        return Choice(winner=winner.name, because=because, front=names)

    def _costs(self, candidate: Candidate, value: float, *, timed: bool) -> tuple[float, ...]:
        """Return the logarithms of what an arm costs; less is better in each."""
        sign = 1 if self.mode == "min" else -1
        quality = sign * (math.log(value) if value else -math.inf)
        return (
            quality,
            math.log(candidate.latent_dimensions),
            math.log(candidate.latency_ms) if timed and candidate.latency_ms else 0.0,
        )

    def _score(self, costs: tuple[float, ...]) -> float:
        weights = (self.quality, self.dimensions, self.latency)
        return sum(weight * cost for weight, cost in zip(weights, costs, strict=True) if weight)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether one is as good as the other in everything, and better in something."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other
