"""One optimizer step: scaled gradients, the optimizer, the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from imginav.model.autoencoder import Autoencoder
from imginav.plugin.components import LRSchedule, Optimizer
from imginav.training.device import Device

SMALLEST_SCALE = 1.0
"""Of fp16's gradients: where they still overflow below, they are too large themselves."""


class Optimization:
    """Optimizer, learning-rate schedule and gradient scaler, which step and are saved together."""

    def __init__(
        self, optimizer: Optimizer, schedule: LRSchedule | None, model: Autoencoder, total_steps: int, device: Device
    ) -> None:
        self.optimizer = optimizer.build(model)
        self._schedule = (
            schedule.build(self.optimizer, total_steps)
            if schedule is not None
            else LambdaLR(self.optimizer, lambda _: 1.0)
        )
        self._scaler = torch.amp.GradScaler(device.device.type, enabled=device.scales_gradients)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those that are there."""
        torch.autograd.backward(self._scaler.scale(loss))

    def unscale(self) -> None:
        """Bring the gradients to their true size, so that they can be read and clipped."""
        self._scaler.unscale_(self.optimizer)

    def gradient_norm(self) -> Tensor:
        """Return the Euclidean norm of all gradients together: not finite where one of them is not."""
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    @property
    def leaves_out_overflows(self) -> bool:
        """Whether gradients that are not finite are only scaled too far, so that a step without them mends it."""
        return self._scaler.is_enabled() and self._scaler.get_scale() >= SMALLEST_SCALE

    def leave_out(self) -> None:
        """Clear the gradients without a step."""
        if self._scaler.is_enabled():
            self._scaler.update(self._scaler.get_scale())
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move the weights and the learning rate, and clear the gradients.

        In fp16 the scaler leaves out a step whose gradients overflowed; the learning rate then waits, too.
        """
        scale = self._scaler.get_scale()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._scaler.get_scale() >= scale:
            self._schedule.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        if isinstance(self._schedule, LambdaLR):  # the saved rate may be that of a run with fewer epochs
            step = self._schedule.last_epoch
            for group, peak, factor in zip(
                self.optimizer.param_groups, self._schedule.base_lrs, self._schedule.lr_lambdas, strict=True
            ):
                group["lr"] = peak * factor(step)
