"""The heads of a decoder as one module."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from imginav.plugin.components import Head
from imginav.plugin.data_spec import DataSpec


class Heads(nn.ModuleDict):
    """The heads of a decoder on the same features; a call gives all their outputs by name."""

    def __init__(self, heads: Mapping[str, Head], in_channels: int, spec: DataSpec, patch: int = 1) -> None:
        """Build the heads for features (N, in_channels, H / patch, W / patch).

        Raises ValueError for a head that torch cannot keep by its name.
        """
        if taken := [name for name in heads if hasattr(nn.ModuleDict(), name)]:
            raise ValueError(f"decoder.heads.{taken[0]}: torch cannot keep a module by this name; choose another")
        super().__init__({name: head.build(in_channels, spec, patch) for name, head in heads.items()})

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        for name, head in self.items():
            output = head(features)
            outputs |= output if isinstance(output, dict) else {name: output}
        return outputs
