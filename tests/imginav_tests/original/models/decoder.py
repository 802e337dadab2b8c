"""Latents to what the heads give."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.components.base_component import BaseComponent
from models.encoder import block


class RGBHead(BaseComponent):
    def _build(self) -> None:
        width = self._init_kwargs.get("in_channels", 64)
        layers = block(nn.Conv2d(width, width, 3, padding=1), width, 8, nn.SiLU())
        self.head = nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.head(x)
        return image


HEADS = {"RGBHead": RGBHead}


class Decoder(BaseComponent):
    def _build(self) -> None:
        given = self._init_kwargs.get
        activation = getattr(nn, given("activation", "SiLU"))()
        steps, groups = given("upsampling_steps", 4), given("norm_groups", 8)
        width = given("base_channels", 64) * 2 ** (steps - 1)
        layers = block(nn.Conv2d(given("latent_channels", 4), width, 3, padding=1), width, groups, activation)
        for _ in range(steps):
            up = nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1)
            width //= 2
            layers += block(up, width, groups, activation)
        self.shared_decoder = nn.Sequential(*layers)
        heads = given("heads", [])
        if strange := [head["type"] for head in heads if head["type"] not in HEADS]:
            raise ValueError(f"no such head: {strange[0]}")
        self.heads = nn.ModuleDict(
            {head["name"]: HEADS[head["type"]].from_config({**head, "in_channels": width}) for head in heads}
        )

    def forward(self, z_or_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        if "latent" in z_or_dict:
            latents = z_or_dict["latent"]
        else:
            latents = z_or_dict["mu"] + torch.randn_like(z_or_dict["mu"]) * torch.exp(0.5 * z_or_dict["logvar"])
        features = self.shared_decoder(latents)
        return {name: head(features) for name, head in self.heads.items()}

    def to_config(self) -> dict[str, Any]:
        return {**super().to_config(), "heads": [head.to_config() for head in self.heads.values()]}
