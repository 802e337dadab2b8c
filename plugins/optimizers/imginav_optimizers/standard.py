"""torch's own optimizers."""

from __future__ import annotations

import torch
from attrs import field, frozen
from torch import nn

from imginav import Optimizer
from imginav.plugin import at_least, between


@frozen(kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    weight_decay: float = field(default=0.01, validator=at_least(0))  # share of a weight, times the rate, per step
    beta1: float = field(default=0.9, validator=between(0, 1))  # decay of the mean gradient, per step
    beta2: float = field(default=0.999, validator=between(0, 1))  # decay of the mean squared gradient, per step

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            parameters,
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            weight_decay=self.weight_decay,
            fused=True,
        )


@frozen(kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    momentum: float = field(default=0.9, validator=at_least(0))  # what stays of the last step's velocity
    weight_decay: float = field(default=0.0, validator=at_least(0))  # share of a weight that is added to its gradient
    nesterov: bool = False  # whether the gradient is taken ahead of the momentum's step

    def __attrs_post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("expected a momentum above 0 with nesterov = true, found 0")

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.SGD(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )
