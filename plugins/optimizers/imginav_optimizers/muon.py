"""Muon for weight matrices and kernels, beside AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from attrs import field, frozen
from torch import nn

from imginav import Optimizer
from imginav.plugin import at_least, between
from imginav_optimizers.stacked_muon import StackedMuon


@frozen(kw_only=True)
class Muon(Optimizer):
    """Momentum whose step is made orthogonal (Jordan et al., 2024), for every weight of two or more dimensions.

    A kernel (out, in, k, k) counts as a matrix (out, in · k · k). Biases and the weights of norms follow AdamW.
    """

    learning_rate: float = field(default=0.02, validator=at_least(0))  # of matrices and kernels, at the peak
    momentum: float = field(default=0.95, validator=between(0, 1))  # what stays of the last step's direction
    weight_decay: float = field(default=0.0, validator=at_least(0))  # share of a weight, times the rate, per step
    adamw_learning_rate: float = field(default=1e-3, validator=at_least(0))  # of all other weights, at the peak

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters = [p for p in model.parameters() if p.requires_grad]
        return MuonWithAdamW(
            [p for p in parameters if p.dim() >= 2],
            [p for p in parameters if p.dim() < 2],
            self,
        )


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon and AdamW as one optimizer to whatever schedules, scales or saves it."""

    def __init__(self, kernels: list[nn.Parameter], others: list[nn.Parameter], config: Muon) -> None:
        groups: list[dict[str, Any]] = []
        self._inner: dict[str, torch.optim.Optimizer] = {}
        if kernels:
            groups.append({"params": kernels, "lr": config.learning_rate})
            self._inner["muon"] = StackedMuon(
                kernels, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
            )
        if others:
            groups.append({"params": others, "lr": config.adamw_learning_rate})
            # Biases and norms are left to decay nowhere: nothing pulls them to zero.
            self._inner["adamw"] = torch.optim.AdamW(
                others, lr=config.adamw_learning_rate, weight_decay=0.0, fused=True
            )
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # it has no loss
        for group, optimizer in zip(self.param_groups, self._inner.values(), strict=True):
            optimizer.param_groups[0]["lr"] = group["lr"]
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {name: optimizer.state_dict() for name, optimizer in self._inner.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        own = {name: value for name, value in state.items() if name not in self._inner}
        super().load_state_dict(own)
        for name, optimizer in self._inner.items():
            optimizer.load_state_dict(state[name])
