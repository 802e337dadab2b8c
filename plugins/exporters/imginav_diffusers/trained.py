"""A trained autoencoder as a model of diffusers."""

from __future__ import annotations

from imginav import TrainedAutoencoder
from imginav.plugin.registry import installed
from imginav_diffusers.autoencoder import ImginavAutoencoder
from imginav_diffusers.installed import CONFIG


def model_of(trained: TrainedAutoencoder) -> ImginavAutoencoder:
    """Return a trained autoencoder as a model of diffusers, with a copy of its weights, in evaluation mode."""
    latent = trained.latent
    encoder = trained.architecture.encoder_in(installed(), CONFIG)
    # Neither latents_mean nor latents_std: the pipelines that read them divide by the standard deviation and
    # multiply by the scaling factor, so that with both the latents would be scaled twice.
    model = ImginavAutoencoder(
        architecture=trained.architecture.table(),
        latent_channels=latent.channels,
        block_out_channels=[encoder.base_channels] * (encoder.downsampling_steps + 1),
        sample_size=latent.image_size,
        scaling_factor=latent.scaling_factor,
        latent_offset=latent.shift_factor,
    )
    source = trained.autoencoder
    buffers = dict(source.named_buffers(remove_duplicate=False))
    model.autoencoder.load_state_dict({**source.state_dict(), **buffers})
    model.eval()
    return model
