"""A graph of `torch.export` as a module."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor, nn


class Pt2Module(nn.Module):
    """Computes a graph; it was traced for evaluation, and refuses to be told so again."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def train(self, mode: bool = True) -> Self:
        return self

    def forward(self, given: Tensor) -> Any:
        return self.graph(given)
