"""The weights of a model in the course of a run."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from imginav import hookimpl
from imginav.training.trainer import Trainer


class WeightsOfEachEpoch:
    """Keeps the weights that were judged in each epoch."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, Tensor]] = {}

    @hookimpl
    def epoch_finished(self, trainer: Trainer) -> None:
        self.weights[trainer.epoch] = {name: t.clone() for name, t in trainer.model.state_dict().items()}

    def are_those_of(self, epoch: int, model: torch.nn.Module) -> bool:
        return same_weights(model.state_dict(), self.weights[epoch])


def same_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two models have weights with the same names and values."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
