"""Schedules that begin with a linear warm-up."""

from __future__ import annotations

import math

from attrs import field, frozen
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from imginav import LRSchedule
from imginav.plugin import from_to


@frozen(kw_only=True)
class Constant(LRSchedule):
    """The optimizer's learning rate after a warm-up."""

    warmup: float = field(default=0.0, validator=from_to(0, 1))  # share of all steps in which the rate rises

    def build(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        return LambdaLR(optimizer, lambda step: _rise(step, self.warmup * total_steps))


@frozen(kw_only=True)
class Cosine(LRSchedule):
    """Half a cosine from the optimizer's learning rate down, after a warm-up (Loshchilov & Hutter, 2017)."""

    warmup: float = field(default=0.02, validator=from_to(0, 1))  # share of all steps in which the rate rises
    final: float = field(default=0.0, validator=from_to(0, 1))  # the rate after the last step, as a share of the peak

    def build(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        warmup_steps = self.warmup * total_steps

        def factor(step: int) -> float:
            progress = min(1.0, max(0.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps)))
            fall = self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2
            return min(fall, _rise(step, warmup_steps)) if step < warmup_steps else fall

        return LambdaLR(optimizer, factor)


@frozen(kw_only=True)
class Linear(LRSchedule):
    """Linear decay of the learning rate to 0, after a warm-up and an optional plateau.

    Without a plateau, it is the one that convergence theory favours (Defazio et al., "Optimal Linear Decay Learning
    Rate Schedules and Further Refinements", 2023); with one, it is "warm-up, stable, decay" (Hu et al., "MiniCPM",
    2024).
    """

    warmup: float = field(default=0.02, validator=from_to(0, 1))  # share of all steps in which the rate rises
    plateau: float = field(default=0.0, validator=from_to(0, 1))  # share of all steps at the peak, before it falls

    def __attrs_post_init__(self) -> None:
        if (shares := self.warmup + self.plateau) > 1:
            raise ValueError(f"expected warmup and plateau to be 1 at most together, found {shares:g}")

    def build(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        falls_from = (self.warmup + self.plateau) * total_steps

        def factor(step: int) -> float:
            fall = (total_steps - step) / max(1.0, total_steps - falls_from)
            return max(0.0, min(fall, _rise(step, self.warmup * total_steps)))

        return LambdaLR(optimizer, factor)


def _rise(step: int, warmup_steps: float) -> float:
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
