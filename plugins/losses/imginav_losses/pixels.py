"""Losses of one pixel value against another; both of one shape, images (N, 3, H, W) in [-1, 1]."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from imginav import Loss, UserError


@frozen(kw_only=True)
class MSE(Loss):
    """Mean squared error over all elements."""

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return F.mse_loss(*of_one_shape(self, outputs, batch))


@frozen(kw_only=True)
class L1(Loss):
    """Mean absolute error over all elements."""

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return F.l1_loss(*of_one_shape(self, outputs, batch))


def of_one_shape(loss: Loss, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the loss's output and target; raises UserError where torch would have to stretch one of them."""
    output, target = outputs[loss.output], batch[loss.target]
    if output.shape != target.shape:
        raise UserError(
            f"{type(loss).__name__} loss: output {loss.output!r} has shape {tuple(output.shape)}, target "
            f"{loss.target!r} has {tuple(target.shape)}; compare an output with a target of its own shape"
        )
    return output, target
