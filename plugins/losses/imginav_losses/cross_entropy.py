"""Cross-entropy of class logits, for pixels and for whole layouts."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor

from imginav import Loss, UserError
from imginav.plugin import UNMATCHED


@frozen(kw_only=True)
class CrossEntropy(Loss):
    """Mean cross-entropy of logits (N, K, …) with class indices (N, …); what matches no class is left out."""

    output: str = field()
    target: str = field()

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        logits, target = outputs[self.output], batch[self.target]
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
