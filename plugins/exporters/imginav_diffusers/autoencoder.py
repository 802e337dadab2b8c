"""An autoencoder of imginav in the place that `AutoencoderKL` has in diffusers: in trainers and in pipelines."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from imginav_diffusers.installed import build_network, class_file
from imginav_diffusers.tiling import in_tiles, reach_of
from imginav_handoff.pretrained import evaluation_mode

MODULE = "imginav_diffusers"
"""What this class is imported from; saved pipelines say so, and find it in a file of that name beside its weights."""

CLASS_FILE = f"{MODULE}.py"

AUTO_MAP = {"AutoModel": f"{MODULE}.ImginavAutoencoder"}

TILE = 512
"""Side in pixels of the tiles in which larger images are computed, once tiling is enabled."""

NOT_ANOTHER_CLASS = (
    "imginav: the folder holds an ImginavAutoencoder. Load it with imginav_diffusers.ImginavAutoencoder, or run the "
    "script with python -m imginav_diffusers SCRIPT.py. In another class, this block"
)
"""What other classes of diffusers read in place of the name of a block or of an activation.

They would ignore all that they do not know, take the defaults for the rest, and go on with random weights after a
warning. So they raise ValueError, which quotes it: AutoencoderKL "this block does not exist".
"""

# diffusers annotates none of its decorators; with types, what they decorate keeps its own.
_Method = TypeVar("_Method", bound=Callable[..., Any])
_register_to_config: Callable[[_Method], _Method] = register_to_config
_apply_forward_hook: Callable[[_Method], _Method] = apply_forward_hook


class ImginavAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]  # its bases disagree about config_name
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

    __module__ = MODULE

    _supports_gradient_checkpointing = True

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
        down_block_types: Sequence[str] = (NOT_ANOTHER_CLASS,),  # this and the next two are never read here
        act_fn: str = NOT_ANOTHER_CLASS,
        encoder_block_types: str = NOT_ANOTHER_CLASS,
        auto_map: Mapping[str, str] = AUTO_MAP,  # where diffusers finds this class, in the file beside config.json
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # diffusers does not annotate it
        self.autoencoder = build_network(architecture)
        self._settle_buffers()
        self.use_slicing = self.use_tiling = False
        self.tile_sample_min_size = TILE
        self._margin: int | None = None  # of tiles, in cells of the latent; None: not known yet
        self.gradient_checkpointing = False
        whole = sorted({type(self.encoder).__name__, type(self.decoder).__name__})
        self._no_split_modules = whole  # type: ignore[assignment]  # diffusers annotates its own None alone
        self._offset = latent_offset

    def save_pretrained(self, save_directory: str | os.PathLike[str], *arguments: Any, **options: Any) -> None:
        """Write what diffusers writes, and the file that defines this class where imginav is not installed."""
        super().save_pretrained(save_directory, *arguments, **options)
        if Path(save_directory).is_dir() and options.get("is_main_process", True):
            (Path(save_directory) / CLASS_FILE).write_text(self.class_source(), encoding="utf-8")

    def class_source(self) -> str:
        """Return the source of that file."""
        return class_file(self.autoencoder, self._table.architecture)

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
        with _mode_for(self.decoder, z):
            images = torch.cat([self._tiled(self._images, part, self.spatial_compression_ratio) for part in slices])
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

    def enable_tiling(self, use_tiling: bool = True) -> None:
        """Encode and decode images that are larger than `tile_sample_min_size` in tiles from now on.

        The result is that of the whole image, but for rounding (docs/phase2.md): a tile is computed with as much of
        what is around it as the networks look at. Raises NotImplementedError where they look at the whole image, as
        those with GroupNorm do.
        """
        if use_tiling and self._margin is None:
            reaches = [self._reach(self._images, self._table.latent_channels, self.spatial_compression_ratio)]
            reaches.append(self._reach(self._moments, self._table.in_channels, 1 / self.spatial_compression_ratio))
            if None in reaches:
                raise NotImplementedError(
                    "this autoencoder encodes and decodes whole images only: its networks look at the whole image "
                    "(GroupNorm does), so that tiles would come out otherwise; where a batch is too large, "
                    "enable_slicing() takes its images one at a time"
                )
            self._margin = max(reach for reach in reaches if reach is not None)
        self.use_tiling = use_tiling

    def disable_tiling(self) -> None:
        """Encode and decode images as a whole again."""
        self.use_tiling = False

    @property
    def encoder(self) -> nn.Module:
        """From images (N, 3, H, W) in [-1, 1] to unscaled latents, before their mean is taken off."""
        return self.autoencoder.encoder

    @property
    def decoder(self) -> nn.Module:
        """From such latents to the outputs of all heads, by name."""
        return self.autoencoder.decoder

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per cell of the latent, along each side."""
        ratio: int = 2 ** (len(self._table.block_out_channels) - 1)
        return ratio

    @property
    def _table(self) -> Any:
        """`config`, which diffusers annotates as a dict, and whose keys can be read as attributes."""
        return self.config

    def _distribution(self, x: Tensor) -> DiagonalGaussianDistribution:
        slices = torch.split(x, 1) if self.use_slicing else (x,)
        with _mode_for(self.encoder, x):
            ratio = self.spatial_compression_ratio
            parameters = torch.cat([self._tiled(self._moments, part, 1 / ratio) for part in slices])
        return DiagonalGaussianDistribution(parameters, deterministic=not self.autoencoder.variational)

    def _moments(self, images: Tensor) -> Tensor:
        """Return means and log-variances (N, 2C, h, w), as diffusers keeps a distribution."""
        mean, log_variance = self._run(self.autoencoder.posterior, images)
        if log_variance is None:
            log_variance = torch.zeros_like(mean)
        return torch.cat([mean - self._offset, log_variance], dim=1).to(images.dtype)

    def _images(self, latents: Tensor) -> Tensor:
        images: Tensor = self._run(self.decoder, latents + self._offset)["rgb"]
        return images.to(latents.dtype)

    def _run(self, network: Callable[[Tensor], Any], given: Tensor) -> Any:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            checkpoint: Any = self._gradient_checkpointing_func  # annotated as None, and set by diffusers meanwhile
            return checkpoint(network, given)
        return network(given)

    def _tiled(self, network: Callable[[Tensor], Tensor], given: Tensor, factor: float) -> Tensor:
        side = max(1, round(1 / factor))  # of a cell of the latent, in what is given
        tile = self.tile_sample_min_size // self.spatial_compression_ratio * side
        if not self.use_tiling or self._margin is None or max(given.shape[2:]) <= tile:
            return network(given)
        return in_tiles(network, given, tile=tile, margin=self._margin * side, factor=factor)

    def _reach(self, network: Callable[[Tensor], Tensor], channels: int, factor: float) -> int | None:
        with evaluation_mode(self):
            return reach_of(network, channels, factor, next(self.parameters()))

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
