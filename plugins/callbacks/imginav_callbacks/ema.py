"""Averages the weights over the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from imginav import Callback, hookimpl
from imginav.plugin import TrainingRun, between


@frozen(kw_only=True)
class EMA(Callback):
    """Judge and keep an exponential moving average of the weights, while the training goes on with its own."""

    decay: float = field(default=0.999, validator=between(0, 1))  # what stays of the average at each step

    @property
    def weight_copies(self) -> int:
        return 2  # the average, and the trained weights while it stands in their place

    def build(self) -> object:
        return WeightAverage(self)


class WeightAverage:
    """Holds the average; from a validation to the next epoch it changes places with the trained weights."""

    def __init__(self, config: EMA) -> None:
        self._config = config
        self._average: list[Tensor] = []
        self._trained: list[Tensor] | None = None  # while the average stands in the model
        self._steps = 0

    @hookimpl
    def run_started(self, trainer: TrainingRun) -> None:
        parameters = _parameters(trainer.model)
        # A resumed run has got its average back already, but on the CPU.
        start = self._average or parameters
        self._average = [a.detach().to(p.device, copy=True) for a, p in zip(start, parameters, strict=True)]

    @hookimpl(tryfirst=True)
    def epoch_started(self, trainer: TrainingRun) -> None:
        if self._trained is not None:
            _copy(self._trained, _parameters(trainer.model))
            self._trained = None

    @hookimpl
    @torch.no_grad()
    def step_finished(self, trainer: TrainingRun) -> None:
        self._steps += 1
        # The first steps move the average faster, or it would remember the initial weights for long.
        decay = min(self._config.decay, (1 + self._steps) / (10 + self._steps))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        average(self._average, [p.detach() for p in _parameters(trainer.model)], None)

    @hookimpl(tryfirst=True)
    def validation_started(self, trainer: TrainingRun) -> None:
        self._trained = [p.detach().clone() for p in _parameters(trainer.model)]
        _copy(self._average, _parameters(trainer.model))

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average, "trained": self._trained, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average, self._trained, self._steps = state["average"], state["trained"], state["steps"]


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


@torch.no_grad()
def _copy(source: list[Tensor], target: list[nn.Parameter]) -> None:
    for value, parameter in zip(source, target, strict=True):
        parameter.copy_(value)
