"""The plugin kind `selector`: the rule by which one experiment of a sweep wins."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from attrs import field, frozen

from imginav.plugin.components import Component


@frozen(kw_only=True)
class Candidate:
    """One experiment of a sweep, as a selector sees it: finished with every seed, its metric finite."""

    name: str
    values: tuple[float, ...]  # the selector's metric, one for each seed of the training and of a probe
    latent_dimensions: int  # numbers in the latent of one layout: height × width × channels
    parameters: int  # of encoder and decoder
    latency_ms: float | None = None  # to encode and decode one layout; none: not measured
    figures: Mapping[str, float] = field(factory=dict)  # means over the seeds of all metrics that the selector reads

    @property
    def mean(self) -> float:
        """The metric's mean over the seeds."""
        return sum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """How far the seeds lie apart: the largest value less the smallest; 0 with one seed."""
        return max(self.values) - min(self.values)

    @property
    def size(self) -> tuple[int, int, float, str]:
        """What ties are decided by, the smaller and faster first."""
        return self.latent_dimensions, self.parameters, self.latency_ms or 0.0, self.name


@frozen(kw_only=True)
class Choice:
    """What a selector decides."""

    winner: str
    because: str  # one sentence with the figures that decided
    front: tuple[str, ...] = ()  # the arms that no other is better than in every respect, where the rule knows them


@frozen(kw_only=True)
class Selector(Component):
    """The rule by which one experiment of a sweep wins.

    A difference smaller than the spread between seeds counts as a tie: an arm is level with the best one if their
    means differ by no more than the best one's seeds do, and among level arms the smaller, faster one goes first.
    """

    kind: ClassVar[str] = "selector"

    metric: str = "val_mse"  # a metric of the weights that a run leaves
    mode: Literal["min", "max"] = "min"  # whether less or more of it is better

    @abstractmethod
    def select(self, candidates: Sequence[Candidate]) -> Choice:
        """Return the winner of at least one arm; the order of the arms means nothing."""

    @property
    def metrics(self) -> dict[str, str]:
        """The names of all metrics that it reads, by the setting; the first one decides."""
        return {"metric": self.metric}

    @property
    def rule(self) -> str:
        """The rule with its thresholds, in a few words."""
        return self.kind

    def best(self, candidates: Sequence[Candidate]) -> Candidate:
        """Return the arm with the best mean; of equal ones the smallest."""
        sign = 1 if self.mode == "min" else -1
        return min(candidates, key=lambda candidate: (sign * candidate.mean, candidate.size))

    def levelled(self, candidates: Sequence[Candidate]) -> dict[str, float]:
        """Return each arm's mean by name, that of the best for those that are level with it."""
        best = self.best(candidates)
        return {c.name: best.mean if abs(c.mean - best.mean) <= best.spread else c.mean for c in candidates}

    def gain(self, value: float, best: float) -> float:
        """Return how much better the best value is than another, as a share of the other: 0.1 for 10 %."""
        difference = value - best if self.mode == "min" else best - value
        return difference / abs(value) if value else (0.0 if difference == 0 else float("inf"))
