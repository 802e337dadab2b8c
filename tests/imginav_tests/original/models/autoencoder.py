"""Encoder and decoder as one model, whose checkpoints must fit it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from models.components.base_component import BaseComponent
from models.decoder import Decoder
from models.encoder import Encoder


class Autoencoder(BaseComponent):
    def _build(self) -> None:
        configs = self._init_kwargs.get("encoder"), self._init_kwargs.get("decoder")
        if None in configs:
            raise ValueError("an autoencoder needs the configs of an encoder and of a decoder")
        self.encoder = Encoder.from_config(configs[0])
        self.decoder = Decoder.from_config(configs[1])

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        encoded: dict[str, Tensor] = self.encoder(x)
        return encoded

    def decode(self, z_or_dict: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
        decoded: dict[str, Tensor] = self.decoder(z_or_dict if isinstance(z_or_dict, dict) else {"latent": z_or_dict})
        return decoded

    def to_config(self) -> dict[str, Any]:
        return {**super().to_config(), "encoder": self.encoder.to_config(), "decoder": self.decoder.to_config()}

    @classmethod
    def load_checkpoint(cls, path: str | Path, map_location: str = "cpu") -> Any:
        return cls._loaded(path, map_location, strict=True)
