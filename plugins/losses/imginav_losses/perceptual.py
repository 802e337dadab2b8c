"""A loss in the feature space of an ImageNet network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor, nn

from imginav import Loss
from imginav.plugin import LossFunction
from imginav_losses.pixels import of_one_shape
from imginav_losses.vgg16 import VGG16Features


@frozen(kw_only=True)
class Perceptual(Loss):
    """Mean squared distance of VGG16 features of two images (N, 3, H, W) in [-1, 1].

    Johnson et al., "Perceptual Losses for Real-Time Style Transfer", 2016, equation 2.
    """

    layers: tuple[Literal["relu1_2", "relu2_2", "relu3_3"], ...] = ("relu3_3",)  # their distances are averaged
    weights: Path | None = field(default=None)  # a file in torchvision's layout; none: torch.hub's cache

    def __attrs_post_init__(self) -> None:
        if not self.layers:
            raise ValueError("expected at least one layer, found none")

    def build(self) -> LossFunction:
        return PerceptualModule(self)


class PerceptualModule(nn.Module):
    """The loss with its network."""

    def __init__(self, config: Perceptual) -> None:
        super().__init__()
        self._config = config
        self.network = VGG16Features(config.layers, config.weights, "the perceptual loss")
        self.eval()

    def forward(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        output, target = of_one_shape(self._config, outputs, batch)
        distances = [F.mse_loss(a, b) for a, b in zip(self.network(output), self.network(target), strict=True)]
        return torch.stack(distances).mean()
