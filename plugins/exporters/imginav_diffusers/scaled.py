"""A model of diffusers with the scaling that its trainers do, by its config as they do it."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from imginav_diffusers.autoencoder import ImginavAutoencoder


class ScaledEncoder(nn.Module):
    """From images (N, 3, H, W) in [-1, 1] to the mean (N, C, h, w) of their scaled latents, and of a variational
    encoder to its log-variance as well.
    """

    def __init__(self, vae: ImginavAutoencoder) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        (latents,) = self.vae.encode(images, return_dict=False)
        config: Any = self.vae.config  # diffusers calls it a table, and means an object
        mean = (latents.mean - config.shift_factor) * config.scaling_factor
        if latents.deterministic:
            return (mean,)
        return mean, latents.logvar + 2 * math.log(config.scaling_factor)


class ScaledDecoder(nn.Module):
    """From scaled latents (N, C, h, w) to images (N, 3, H, W) in [-1, 1]."""

    def __init__(self, vae: ImginavAutoencoder) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        config: Any = self.vae.config  # as above
        (images,) = self.vae.decode(latents / config.scaling_factor + config.shift_factor, return_dict=False)
        return images
