"""Lets the original project's code use an autoencoder whose network its own classes cannot build.

In the root of that code, give one of its scripts to this file, with the script's arguments:

    python FOLDER/imginav_original.py training/train_diffusion.py CONFIG.yaml

or import this file before a checkpoint is loaded:

    sys.path.insert(0, "FOLDER")
    import imginav_original

Then `Autoencoder.load_checkpoint` takes the checkpoint of this folder, and `DiffusionModel.load_checkpoint` those of
diffusion models that were trained with it. imginav must be installed, with the plugins that the network is made of.
"""

from __future__ import annotations

import json  # noqa: F401  # for an adapter that brings its network with it
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

KEY = "imginav"
"""The key of an encoder's or decoder's config that says what its network is built from."""

if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))

try:
    import models.components.base_component  # type: ignore[import-not-found]  # the original's
    import models.decoder  # type: ignore[import-not-found]
    import models.encoder  # type: ignore[import-not-found]
except ModuleNotFoundError as error:
    raise ImportError(
        f"{Path(__file__).name} needs the original code, of which Python finds no {error.name}; start it in its root"
    ) from error


class ImginavEncoder(models.encoder.Encoder):  # type: ignore[misc]  # the original has no types
    """Images (N, 3, H, W) in [-1, 1] to scaled latents (N, C, h, w), returned as the original's encoder does."""

    def _build(self) -> None:
        self.network = build_network(self._init_kwargs[KEY]).encoder

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return `latent`, or of a variational encoder `mu` and `logvar`."""
        encoded = self.network(x)
        if not self.variational:
            return {"latent": encoded * self.scaling_factor}
        mean, log_variance = encoded.float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30.0, 20.0)
        return {"mu": mean * self.scaling_factor, "logvar": log_variance + 2 * math.log(self.scaling_factor)}


class ImginavDecoder(models.decoder.Decoder):  # type: ignore[misc]
    """Scaled latents (N, C, h, w), taken as the original's decoder does, to images."""

    def _build(self) -> None:
        self.network = build_network(self._init_kwargs[KEY]).decoder
        self.heads = nn.ModuleDict()  # the original's `to_config` asks for them

    def forward(self, z_or_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `rgb` (N, 3, H, W) in [-1, 1] of `latent`, or of a draw from `mu` and `logvar`."""
        if "latent" in z_or_dict:
            latents = z_or_dict["latent"]
        else:
            deviation = torch.exp(0.5 * z_or_dict["logvar"])
            latents = z_or_dict["mu"] + deviation * torch.randn_like(deviation)
        return {"rgb": self.network(latents / self.scaling_factor)["rgb"]}


def take_over(theirs: Any, own: Any) -> None:
    """Make a class of the original build `own` from configs that name a network of imginav, and itself from others."""
    build = models.components.base_component.BaseComponent.from_config.__func__

    def from_config(cls: Any, cfg: dict[str, Any]) -> Any:
        return build(own if KEY in cfg.get("model", cfg) else cls, cfg)

    theirs.from_config = classmethod(from_config)


def build_network(architecture: dict[str, Any]) -> Any:
    """Return the network that an architecture describes, without its weights: `encoder` and `decoder`."""
    try:
        from imginav.plugin import installed
        from imginav_handoff.architecture import Architecture
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{Path(__file__).name} needs imginav, and Python finds no {error.name}; install it"
        ) from error
    return Architecture.of(architecture, __file__).build(installed(), __file__)


take_over(models.encoder.Encoder, ImginavEncoder)
take_over(models.decoder.Decoder, ImginavDecoder)

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(
            f"usage: python {sys.argv[0]} SCRIPT [ARGUMENT ...]; SCRIPT is one of the original code, from its root"
        )
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
