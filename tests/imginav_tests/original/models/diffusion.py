"""A diffusion model: a decoder from an autoencoder's checkpoint, a network, and the factor of its latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.autoencoder import Autoencoder
from models.components.base_component import BaseComponent
from models.decoder import Decoder


class DiffusionModel(BaseComponent):
    def _build(self) -> None:
        given = self._init_kwargs
        if "autoencoder" in given:
            self.decoder = Autoencoder.load_checkpoint(given["autoencoder"]["checkpoint"]).decoder
        else:
            self.decoder = Decoder.from_config(given["decoder"])  # its weights come from the diffusion checkpoint
        self.scale_factor = given.get("scale_factor", 1.0)
        self.unet = nn.Conv2d(given["unet"]["in_channels"], given["unet"]["out_channels"], 3, padding=1)

    def forward(self, latents: Tensor, noise: Tensor) -> Tensor:
        predicted: Tensor = self.unet((latents * self.scale_factor + noise) / 2**0.5)
        return predicted

    def images(self, sampled: Tensor) -> Tensor:
        with torch.no_grad():
            rgb: Tensor = self.decoder({"latent": sampled.clamp(-6, 6) / self.scale_factor})["rgb"]
        return rgb

    def to_config(self) -> dict[str, Any]:
        return {"unet": self._init_kwargs["unet"], "decoder": self.decoder.to_config()}
