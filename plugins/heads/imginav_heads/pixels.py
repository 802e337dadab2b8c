"""Heads that say something of every pixel."""

from __future__ import annotations

from attrs import frozen
from torch import nn

from imginav import DataSpec, Head

GROUPS = 8
"""Groups of each GroupNorm."""


@frozen(kw_only=True)
class RgbHead(Head):
    """The image itself: (N, 3, H, W) in [-1, 1]."""

    def build(self, in_channels: int, spec: DataSpec) -> nn.Module:
        return nn.Sequential(*_convolutions(in_channels, 3), nn.Tanh())


@frozen(kw_only=True)
class SegmentationHead(Head):
    """The class of every pixel: logits (N, classes, H, W), no probabilities (cross-entropy takes their softmax)."""

    def build(self, in_channels: int, spec: DataSpec) -> nn.Module:
        return nn.Sequential(*_convolutions(in_channels, len(spec.palette)))


def _convolutions(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, in_channels, 3, padding=1),
        nn.GroupNorm(GROUPS, in_channels),
        nn.SiLU(),
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
    ]
