"""Keeps single steps from being too large."""

from __future__ import annotations

from attrs import field, frozen
from torch.nn.utils import clip_grad_norm_

from imginav import Callback, hookimpl
from imginav.plugin import TrainingRun, above


@frozen(kw_only=True)
class GradientClipping(Callback):
    """Scale the gradients of a step down to a largest norm (Pascanu et al., 2013)."""

    max_norm: float = field(default=1.0, validator=above(0))  # of all gradients together, Euclidean

    @hookimpl
    def gradients_ready(self, trainer: TrainingRun) -> None:
        clip_grad_norm_(trainer.model.parameters(), self.max_norm)
