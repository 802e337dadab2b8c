"""The trained weights, kept while a callback has put others into the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class TrainedWeights:
    """Keeps the trained weights while the model holds others, and puts them back.

    They are part of the trainer's state and not of the callback's, so that a run resumes from them even where the
    callback has been taken out of the manifest.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._kept: dict[str, Tensor] = {}  # by parameter name; empty while the model holds the trained weights

    @torch.no_grad()
    def replace(self, weights: Mapping[str, Tensor]) -> None:
        """Put `weights`, by parameter name, into the model and keep those that were trained."""
        parameters = dict(self._model.named_parameters())
        for name, weight in weights.items():
            # Replaced a second time, the model no longer holds what was trained.
            self._kept.setdefault(name, parameters[name].detach().clone())
            parameters[name].copy_(weight)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the trained weights back, if others have replaced them."""
        parameters = dict(self._model.named_parameters())
        for name, weight in self._kept.items():
            parameters[name].copy_(weight)
        self._kept = {}

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._kept)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._kept = dict(state)
