"""Small autoencoders, as exporters are given them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from imginav import DataSpec, TrainedAutoencoder
from imginav.plugin.registry import Registry
from imginav_handoff.architecture import Architecture
from imginav_handoff.latent_space import LatentSpace
from imginav_handoff.pretrained import ScaledDecoder, ScaledEncoder


def trained_autoencoder(
    registry: Registry, spec: DataSpec, kind: str, heads: Mapping[str, Any], *, variational: bool = False
) -> TrainedAutoencoder:
    """Return an autoencoder of layouts of 32 px, with 4 latent channels on 8 × 8 cells and weights of some noise.

    Encoder and decoder are components of the same `type`, `kind`.
    """
    shape = {"latent_channels": 4, "base_channels": 16, "downsampling_steps": 2, "variational": variational}
    architecture = Architecture(
        encoder={"type": kind, **shape}, decoder={"type": kind, "heads": dict(heads)}, spec=spec
    )
    model = architecture.build(registry, "test").eval()
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # those that begin as zeros would hide what is done with them
            parameter += 0.02 * torch.randn(parameter.shape, generator=noise)
    latent = LatentSpace(
        image_size=32,
        channels=4,
        downsampling_factor=4,
        variational=variational,
        scaling_factor=1.7,
        shift_factor=0.2,
        means=(0.1, 0.2, 0.3, 0.2),
        stds=(0.5, 0.6, 0.7, 0.5),
        dead_channels=(),
        layouts=12,
        spec=spec,
        weights_sha256="0" * 64,
    )
    return TrainedAutoencoder(
        autoencoder=model,
        architecture=architecture,
        latent=latent,
        encoder=ScaledEncoder(model, latent).eval(),
        decoder=ScaledDecoder(model, latent).eval(),
    )
