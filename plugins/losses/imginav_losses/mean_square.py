"""A price on the size of an output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen
from torch import Tensor

from imginav import Loss


@frozen(kw_only=True)
class MeanSquare(Loss):
    """Mean square of an output over all elements; on the latent, it keeps what diffusion will model from growing.

    A deterministic encoder's latent has no scale of its own: whatever it is multiplied by, the decoder can divide by.
    """

    output: str = "latent"
    target: str = field(default="", init=False)  # it compares with nothing

    def required_targets(self) -> Sequence[str]:
        return ()

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return outputs[self.output].square().mean()
