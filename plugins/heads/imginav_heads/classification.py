"""A head that says something of the whole layout."""

from __future__ import annotations

from attrs import frozen
from torch import nn

from imginav import DataSpec, Head


@frozen(kw_only=True)
class ClassificationHead(Head):
    """The type of the layout, room or scene: logits (N, types) from globally averaged features."""

    def build(self, in_channels: int, spec: DataSpec, patch: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, len(spec.labels)))
