"""The autoencoders that latent diffusion models come with, as diffusers builds them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

STABLE_DIFFUSION = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
"""As the models of that name come with it; the other two are so by default (TAESD, and DC-AE f32c32)."""

PEERS: dict[str, dict[str, object]] = {
    "AutoencoderTiny": {},
    "AutoencoderKL": STABLE_DIFFUSION,
    "AutoencoderDC": {},
}
"""Names of diffusers' classes, with what they are built of where it is not their default."""


def latents_of(peer: Any, images: Tensor) -> Tensor:
    """Return the latents as a diffusion model takes them; of a variational peer the means."""
    encoded = peer.encode(images)
    if hasattr(encoded, "latent_dist"):
        means: Tensor = encoded.latent_dist.mean
        return means
    latents: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent
    return latents


def images_of(peer: Any, latents: Tensor) -> Tensor:
    """Return the images (N, 3, H, W) of a peer's latents."""
    images: Tensor = peer.decode(latents).sample
    return images
