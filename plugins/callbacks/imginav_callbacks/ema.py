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
        return 2  # the average, and the trained weights, which the trainer keeps while the average is in the model

    def build(self) -> object:
        return WeightAverage(self)


class WeightAverage:
    """Holds the average, and puts it into the model for each validation; the trainer keeps the trained weights."""

    def __init__(self, config: EMA) -> None:
        self._config = config
        self._average: list[Tensor] = []
        self._steps = 0
        self._trained: list[Tensor] | None = None  # from a checkpoint of an earlier version, which kept them here

    @hookimpl
    def run_started(self, trainer: TrainingRun) -> None:
        parameters = list(_parameters(trainer.model).values())
        # A resumed run has got its average back already, but on the CPU.
        start = self._average or parameters
        self._average = [a.detach().to(p.device, copy=True) for a, p in zip(start, parameters, strict=True)]

    @hookimpl(tryfirst=True)
    @torch.no_grad()
    def epoch_started(self, trainer: TrainingRun) -> None:
        if self._trained is not None:
            for parameter, weight in zip(_parameters(trainer.model).values(), self._trained, strict=True):
                parameter.copy_(weight)
            self._trained = None

    @hookimpl
    @torch.no_grad()
    def step_finished(self, trainer: TrainingRun) -> None:
        self._steps += 1
        # The first steps move the average faster, or it would remember the initial weights for long.
        decay = min(self._config.decay, (1 + self._steps) / (10 + self._steps))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        average(self._average, [p.detach() for p in _parameters(trainer.model).values()], None)

    @hookimpl(tryfirst=True)
    def validation_started(self, trainer: TrainingRun) -> None:
        trainer.replace_weights(dict(zip(_parameters(trainer.model), self._average, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average, "steps": self._steps, "trained": self._trained}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average, self._steps, self._trained = state["average"], state["steps"], state["trained"]


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
