"""Pipelines of diffusers that are as small as can be."""

from __future__ import annotations

from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel

from imginav_diffusers import ImginavAutoencoder


def small_unet() -> UNet2DModel:
    """Return a network for the noise in latents of 8 × 8 cells and 4 channels."""
    return UNet2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )


def small_pipeline(vae: ImginavAutoencoder) -> LDMPipeline:
    """Return an unconditional pipeline for such latents."""
    return LDMPipeline(vqvae=vae, unet=small_unet().eval(), scheduler=DDIMScheduler())
