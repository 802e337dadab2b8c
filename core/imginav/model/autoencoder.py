"""Encoder and decoder as one module."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias, cast

import torch
from attrs import frozen
from torch import Tensor, nn

from imginav.errors import UserError
from imginav.plugin.components import Dataset, Decoder, Encoder, TrainsForOutputs
from imginav.plugin.data_spec import DataSpec
from imginav.seeds import Seeds

MOST_PARAMETERS = 250_000_000
"""Twenty times those of the phases' largest network; with gradients and moments they take 4 GB."""

Noise: TypeAlias = Callable[[Tensor], Tensor]
"""Takes the means (N, C, h, w) of latents, and gives as many draws of a standard normal distribution in fp32."""

LATENT_OUTPUTS = ("latent", "mean", "log_variance")
"""Outputs that are the encoder's, not a head's; the last two of a variational encoder only."""


@frozen
class LatentNoise:
    """Draws for the latents of a batch: the same in whichever parts, and by whichever processes, it is computed."""

    generator: torch.Generator
    seed: int
    total: int  # layouts of the whole batch

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Return the draws (total, C, h, w) for latents of a shape (C, h, w)."""
        self.generator.manual_seed(self.seed)
        device = self.generator.device
        return torch.randn((self.total, *shape), generator=self.generator, device=device, dtype=torch.float32)

    def of(self, rows: slice) -> Noise:
        """Return what draws for some rows of the batch."""
        return lambda mean: self.draw(mean.shape[1:])[rows]


class Autoencoder(nn.Module):
    """From images to latents and back: the module that is trained, saved and handed on."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, variational: bool, heads: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.variational = variational
        self.output_names = (*heads, *LATENT_OUTPUTS[: 3 if variational else 1])

    def train_for(self, outputs: Collection[str], in_patches: Collection[str]) -> None:
        """Tell the heads which outputs are read in training, and which of them in whatever order their pixels are."""
        for module in self.decoder.modules():
            if isinstance(module, TrainsForOutputs):
                module.train_for(outputs, in_patches)

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents (N, C, h, w) of images (N, 3, H, W) in [-1, 1]; of a variational encoder the mean."""
        return self.posterior(images)[0]

    def decode(self, latents: Tensor) -> dict[str, Tensor]:
        """Return the outputs of all heads by name for latents (N, C, h, w); `rgb` is (N, 3, H, W) in [-1, 1]."""
        return cast(dict[str, Tensor], self.decoder(latents))

    def forward(self, images: Tensor, noise: Noise | None = None) -> dict[str, Tensor]:
        """Return all outputs by name for images (N, 3, H, W) in [-1, 1].

        With `noise` a variational latent is drawn from its distribution; without it, it is the mean.
        """
        mean, log_variance = self.posterior(images)
        if log_variance is None:
            return {**self.decode(mean), "latent": mean}
        latent = mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise(mean)
        return {**self.decode(latent), "latent": latent, "mean": mean, "log_variance": log_variance}

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return mean and log-variance (N, C, h, w) of the latents of images; a deterministic one has no variance."""
        return moments(self.encoder(images), variational=self.variational)


def moments(encoded: Tensor, *, variational: bool) -> tuple[Tensor, Tensor | None]:
    """Return mean and log-variance (N, C, h, w) of what an encoder gives; a deterministic one has no variance."""
    if not variational:
        return encoded, None
    mean, log_variance = encoded.float().chunk(2, dim=1)
    # exp stays finite, and far from zero, in fp32.
    return mean, log_variance.clamp(-30.0, 20.0)


def build_autoencoder(encoder: Encoder, decoder: Decoder, spec: DataSpec, seeds: Seeds) -> Autoencoder:
    """Return a freshly initialised autoencoder, the same one for the same seed.

    Raises UserError where the decoder's stated shapes contradict the encoder's, or it would have too many parameters.
    """
    check_shapes(encoder, decoder)
    with torch.random.fork_rng(devices=[]):
        _refuse_too_large(encoder, decoder, spec)
        torch.manual_seed(seeds.derive("initialisation"))
        return _build(encoder, decoder, spec)


def _build(encoder: Encoder, decoder: Decoder, spec: DataSpec) -> Autoencoder:
    try:
        return Autoencoder(
            encoder.build(),
            decoder.build(encoder, spec),
            variational=encoder.variational,
            heads=decoder.output_names,
        )
    except ValueError as error:
        raise UserError(f"the autoencoder cannot be built: {error}") from error


def _refuse_too_large(encoder: Encoder, decoder: Decoder, spec: DataSpec) -> None:
    """Count the parameters on a device without memory, before this machine's is asked for them."""
    try:
        with torch.device("meta"):
            number = parameter_count(_build(encoder, decoder, spec))
    except RuntimeError:  # a network that looks into its own weights; it is built as it is
        return
    if number > MOST_PARAMETERS:
        raise UserError(
            f"the autoencoder would have {number:,} parameters; {MOST_PARAMETERS:,} are the most: lower "
            "encoder.base_channels or encoder.downsampling_steps"
        )


def check_sizes(data: Dataset, encoder: Encoder) -> None:
    """Raise UserError where the encoder cannot halve layouts or crops as often as it is told to."""
    factor = encoder.downsampling_factor
    faults = [
        f"data.{key} = {side} cannot be halved {encoder.downsampling_steps} times "
        f"(encoder.downsampling_steps); take a multiple of {factor}, such as {max(1, side // factor) * factor}"
        for key, side in (("image_size", data.image_size), ("crop", data.crop))
        if side is not None and side % factor
    ]
    if faults:
        raise UserError("\n".join(faults), faults)


def check_shapes(encoder: Encoder, decoder: Decoder) -> None:
    """Raise UserError where the decoder's stated shapes contradict the encoder's, or a head's name is taken."""
    pairs = {
        "latent_channels": (decoder.latent_channels, encoder.latent_channels, "latent_channels"),
        "upsampling_steps": (decoder.upsampling_steps, encoder.downsampling_steps, "downsampling_steps"),
    }
    faults = [
        f"decoder.{key} = {stated} contradicts encoder.{encoder_key} = {needed}; "
        f"leave decoder.{key} out, and it follows the encoder"
        for key, (stated, needed, encoder_key) in pairs.items()
        if stated is not None and stated != needed
    ]
    if faults:
        raise UserError("\n".join(faults), faults)
    if not decoder.heads:
        raise UserError('decoder.heads is empty; name at least one, such as rgb = { type = "rgb" }')
    given: dict[str, str] = {}
    for name, head in decoder.heads.items():
        for output in head.outputs(name):
            if output in LATENT_OUTPUTS:
                raise UserError(f"decoder.heads.{name}: the name {output!r} is the encoder's; choose another")
            if (other := given.setdefault(output, name)) != name:
                raise UserError(
                    f"decoder.heads.{name} and decoder.heads.{other} both give the output {output!r}; take one of them "
                    f"out, such as with decoder.heads.{name} = false"
                )


@torch.no_grad()
def check_outputs(model: Autoencoder, encoder: Encoder, images: Tensor) -> dict[str, Tensor]:
    """Return the outputs for images (N, 3, H, W); raises UserError where encoder or decoder give another shape.

    Found later, an encoder's wrong latent would be blamed on a loss.
    """
    number, _, height, width = images.shape
    factor, channels = encoder.downsampling_factor, encoder.latent_channels * (2 if encoder.variational else 1)
    encoded = model.encoder(images)
    latent = (number, channels, height // factor, width // factor)
    if tuple(encoded.shape) != latent:
        raise UserError(
            f"the encoder ({type(model.encoder).__name__}) gives {_shape(encoded)} for images {_shape(images)}, where "
            f"its latent_channels, downsampling_steps and variational say {latent}; mend the encoder, or these values"
        )
    outputs = model(images)
    for name in sorted({"rgb", "segmentation"} & outputs.keys()):
        if tuple(outputs[name].shape[2:]) != (height, width):
            raise UserError(
                f"the decoder ({type(model.decoder).__name__}) gives {name} {_shape(outputs[name])} for latents "
                f"{_shape(outputs['latent'])} of images {_shape(images)}; mend the decoder, so that both have the same "
                "height and width"
            )
    return dict(outputs)


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def parameter_count(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
