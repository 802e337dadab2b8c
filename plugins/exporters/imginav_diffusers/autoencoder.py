"""An autoencoder of imginav in the place that `AutoencoderKL` has in diffusers: in trainers and in pipelines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from imginav import TrainedAutoencoder
from imginav.model.autoencoder import Autoencoder
from imginav.plugin.registry import installed
from imginav_handoff.architecture import Architecture
from imginav_handoff.pretrained import evaluation_mode

CONFIG = "config.json"

# diffusers annotates none of its decorators; with types, what they decorate keeps its own.
_Method = TypeVar("_Method", bound=Callable[..., Any])
_register_to_config: Callable[[_Method], _Method] = register_to_config
_apply_forward_hook: Callable[[_Method], _Method] = apply_forward_hook


class ImginavAutoencoder(ModelMixin, ConfigMixin):
    """From images (N, 3, H, W) in [-1, 1] to latents (N, C, h, w) and back, as `AutoencoderKL` does it.

    Who trains on its latents or decodes them does the scaling, by `config.scaling_factor`, as everywhere in diffusers.
    Their mean, `config.latent_offset`, is taken off and put back by the model itself, and `config.shift_factor` is 0:
    some pipelines shift and some do not, and so all of them are right. What is given must have the dtype of the
    weights, and what comes back has it.

    It computes in evaluation mode, also after `train()`, wherever no gradient can come of it: under `torch.no_grad` or
    `torch.inference_mode`, or where neither the input nor a weight requires one. Otherwise it computes in the mode that
    it is in. Gradients pass through both ways, but for the decoded images of a head that paints each pixel in the
    colour of its likeliest class: these have gradients in training mode alone, where each pixel is the mean of the
    colours.
    """

    # The constructor's arguments are the keys of config.json, which is why they are so many; all but the first are what
    # pipelines and trainers read.
    @_register_to_config
    def __init__(
        self,
        *,
        architecture: dict[str, Any],  # `Architecture.table()`. One key, as tables called encoder and decoder would
        # stand where others look for the modules of these names.
        latent_channels: int,
        block_out_channels: Sequence[int],  # one more than there are halvings; their number is what is read
        sample_size: int,  # side in pixels of the layouts it was trained on
        scaling_factor: float,
        latent_offset: float,  # the mean of the encoder's latents, which encode takes off and decode puts back
        shift_factor: float = 0.0,
        latents_mean: Sequence[float] | None = None,  # of each channel, of code that scales by them as well
        latents_std: Sequence[float] | None = None,  # as above
        in_channels: int = 3,
        out_channels: int = 3,
        force_upcast: bool = False,  # whether pipelines decode in fp32 where the rest is fp16
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # diffusers does not annotate it
        self.autoencoder: Autoencoder = Architecture.of(architecture, CONFIG).build(installed(), CONFIG)
        self._settle_buffers()
        self.use_slicing = False
        self._offset = latent_offset

    @classmethod
    def of(cls, trained: TrainedAutoencoder) -> ImginavAutoencoder:
        """Return a trained autoencoder as a model of diffusers, with a copy of its weights, in evaluation mode."""
        latent = trained.latent
        encoder = trained.architecture.encoder_in(installed(), CONFIG)
        # Neither latents_mean nor latents_std: the pipelines that read them divide by the standard deviation and
        # multiply by the scaling factor, so that with both the latents would be scaled twice.
        model = cls(
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

    @_apply_forward_hook
    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Return the distribution of the latents (N, C, h, w) of images (N, 3, H, W) in [-1, 1].

        That of a deterministic encoder has no variance, so that what is drawn from it is its mean.
        """
        latents = self._distribution(x)
        return AutoencoderKLOutput(latent_dist=latents) if return_dict else (latents,)

    @_apply_forward_hook
    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Return the images (N, 3, H, W) in [-1, 1] of latents (N, C, h, w) as `encode` gives them, unscaled.

        Nothing is drawn, so that the `generator` that pipelines hand over is not used.
        """
        slices = torch.split(z, 1) if self.use_slicing else (z,)
        with _mode_for(self.autoencoder.decoder, z):
            decoded = [self.autoencoder.decode(latents + self._offset)["rgb"].to(z.dtype) for latents in slices]
        images = torch.cat(decoded)
        return DecoderOutput(sample=images) if return_dict else (images,)

    def forward(
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[Tensor]:
        """Return the reconstructions (N, 3, H, W) of images, of latents that are drawn or their mean."""
        latents = self._distribution(sample)
        drawn = latents.sample(generator=generator) if sample_posterior else latents.mode()
        return self.decode(drawn, return_dict=return_dict)

    def enable_slicing(self) -> None:
        """Encode and decode one image at a time from now on: the same result, in less memory."""
        self.use_slicing = True

    def disable_slicing(self) -> None:
        """Encode and decode all images at once again."""
        self.use_slicing = False

    def enable_tiling(self) -> None:
        """Raise NotImplementedError: images are encoded and decoded whole."""
        raise NotImplementedError(
            "ImginavAutoencoder encodes and decodes whole images only: its networks may normalise over the whole image "
            "(GroupNorm does), so that tiles would come out otherwise; layouts are small enough for it, and where a "
            "batch is too large, enable_slicing() takes its images one at a time"
        )

    def disable_tiling(self) -> None:
        """Do nothing, as pipelines may ask for it whatever the model is."""

    def _distribution(self, x: Tensor) -> DiagonalGaussianDistribution:
        slices = torch.split(x, 1) if self.use_slicing else (x,)
        with _mode_for(self.autoencoder.encoder, x):
            moments = torch.cat([self._moments(images) for images in slices])
        return DiagonalGaussianDistribution(moments, deterministic=not self.autoencoder.variational)

    def _moments(self, images: Tensor) -> Tensor:
        """Return means and log-variances (N, 2C, h, w), as diffusers keeps a distribution."""
        mean, log_variance = self.autoencoder.posterior(images)
        if log_variance is None:
            log_variance = torch.zeros_like(mean)
        return torch.cat([mean - self._offset, log_variance], dim=1).to(images.dtype)

    def _settle_buffers(self) -> None:
        """Make every buffer one that is saved, in the dtype that the model is built in.

        `from_pretrained` may build a model without memory for it (with accelerate, or on torch's meta device), and then
        fills in what stands in the file and nothing else: colours of a palette, which are no weights and are not saved
        elsewhere, would be lost. And it builds in the dtype that it is asked for but casts nothing afterwards, so that
        tensors of a stated dtype would stay in that.
        """
        self.autoencoder.to(torch.get_default_dtype())
        for module in self.autoencoder.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                # Each in a memory of its own, as safetensors wants it.
                own = buffer.clone(memory_format=torch.contiguous_format)
                module.register_buffer(name, own, persistent=True)


def _mode_for(module: nn.Module, given: Tensor) -> AbstractContextManager[None]:
    """Return the context to compute in: evaluation mode, unless a gradient can come of it."""
    tensors = (given, *module.parameters())
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return nullcontext()
    return evaluation_mode(module)
