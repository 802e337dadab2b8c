"""A trained autoencoder as a model of diffusers, and what such a model says of its latents."""

from __future__ import annotations

from typing import Any

from imginav import TrainedAutoencoder
from imginav.plugin.checkpoint import sha256_of
from imginav.plugin.registry import installed
from imginav_diffusers.autoencoder import ImginavAutoencoder
from imginav_diffusers.installed import CONFIG
from imginav_handoff.architecture import Architecture
from imginav_handoff.latent_space import LatentSpace


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


def latent_of(model: ImginavAutoencoder) -> LatentSpace:
    """Return the latent space of the network in a model, by its config, which says nothing of single channels."""
    config: Any = model.config  # diffusers annotates it as a dict, and its keys can be read as attributes
    architecture = Architecture.of(config.architecture, CONFIG)
    saved = architecture.build(installed(), CONFIG).state_dict()  # without colours, which the model saves as well
    weights = {name: tensor for name, tensor in model.autoencoder.state_dict().items() if name in saved}
    return LatentSpace(
        image_size=config.sample_size,
        channels=config.latent_channels,
        downsampling_factor=model.spatial_compression_ratio,
        variational=model.autoencoder.variational,
        scaling_factor=config.scaling_factor,
        shift_factor=config.latent_offset,
        means=(),
        stds=(),
        dead_channels=(),
        layouts=0,
        spec=architecture.spec,
        weights_sha256=sha256_of(weights),
    )
