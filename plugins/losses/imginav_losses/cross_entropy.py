"""Cross-entropy of class logits, for pixels and for whole layouts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor

from imginav import Loss, UserError
from imginav.plugin import UNMATCHED


@frozen(kw_only=True)
class CrossEntropy(Loss):
    """Mean cross-entropy of logits (N, K, …) with class indices (N, …); what matches no class is left out."""

    takes_patches: ClassVar[bool] = True

    output: str = field()
    target: str = field()

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        logits, target = outputs[self.output], batch[self.target]
        if logits.dim() == 5 and target.shape == _shape_in_place(logits):
            logits, target = in_one_order(logits, target)
        if target.is_floating_point() or target.shape != logits.shape[:1] + logits.shape[2:]:
            raise UserError(
                f"{type(self).__name__} loss: output {self.output!r} has shape {tuple(logits.shape)}, target "
                f"{self.target!r} has {tuple(target.shape)}; compare logits (N, K, …) with class indices (N, …)"
            )
        try:
            total = F.cross_entropy(logits, target, ignore_index=UNMATCHED, reduction="sum")
        except IndexError as error:
            raise UserError(
                f"{type(self).__name__} loss: output {self.output!r} has {logits.shape[1]} classes, which target "
                f"{self.target!r} exceeds ({error}); compare logits with the classes that they are made for"
            ) from error
        # A batch in which nothing matches a class costs nothing; the mean of none would be NaN.
        return total / (target != UNMATCHED).sum().clamp(min=1)


def _shape_in_place(patches: Tensor) -> tuple[int, ...]:
    number, _, pixels, rows, columns = patches.shape
    side = math.isqrt(pixels)
    return number, rows * side, columns * side


def in_one_order(patches: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits in patches (N, K, p · p, h, w) and class indices (N, h · p, w · p) with their pixels in one order.

    It is the order in which the logits lie in memory, so that only the indices move: one number for each pixel.
    """
    number, classes, pixels, rows, columns = patches.shape
    side = math.isqrt(pixels)
    split = target.view(number, rows, side, columns, side)
    if patches.stride(1) < patches.stride(4):  # channels_last
        cells = number * rows * columns
        logits = patches.permute(0, 3, 4, 1, 2).reshape(cells, classes, pixels)
        return logits, split.permute(0, 1, 3, 2, 4).reshape(cells, pixels)
    return patches, split.permute(0, 2, 4, 1, 3).reshape(number, pixels, rows, columns)
