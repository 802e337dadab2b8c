"""An ONNX graph as a module of torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class OnnxModule(nn.Module):
    """Computes a graph of one input by onnxruntime, on the CPU in fp32, and without gradients."""

    def __init__(self, session: Any, *, several: bool) -> None:
        """Take a session; `several` makes what it gives a tuple, whatever its length."""
        super().__init__()
        self.session = session
        self._several = several
        self._input = session.get_inputs()[0].name

    def forward(self, given: Tensor) -> Tensor | tuple[Tensor, ...]:
        computed = self.session.run(None, {self._input: given.detach().float().cpu().contiguous().numpy()})
        outputs = tuple(map(torch.from_numpy, computed))
        return outputs if self._several else outputs[0]
