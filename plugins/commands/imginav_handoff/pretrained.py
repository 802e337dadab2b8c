"""`imginav.load`: a trained autoencoder for Python users, from a checkpoint or from what `imginav export` wrote."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast, overload

import tomli
import torch
from PIL import Image
from torch import Tensor, nn

from imginav.errors import UserError
from imginav.model.autoencoder import Autoencoder, moments
from imginav.plugin.checkpoint import Checkpoint, load_checkpoint
from imginav.plugin.registry import Registry, installed
from imginav_handoff.architecture import Architecture, dataset_in
from imginav_handoff.export_folder import is_export, open_export
from imginav_handoff.exporter import Exporter
from imginav_handoff.images import Pictures, cut, images_of, padded, pictures_of
from imginav_handoff.latent_space import LatentSpace, latent_space_of
from imginav_handoff.whole_evaluation import evaluation_of
from imginav_reports.run_weights import is_run, weights_named

NOT_KNOWN = (
    "{path} has no export.json, as another program has saved it: whether its weights are still those that were "
    "exported, and whether the scaling factor fits them, is not known"
)


class UnverifiedWarning(UserWarning):
    """An autoencoder was loaded that cannot be compared with what was exported."""


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and all its submodules into evaluation mode for a while; each is then in its own mode again.

    A layer may compute something else while it trains: dropout, or the head that paints in the colours of classes.
    """
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False  # not eval(), which the graphs of torch.export refuse
    try:
        yield
    finally:
        for part in training:
            part.training = True


class ScaledEncoder(nn.Module):
    """From images (N, 3, H, W) in [-1, 1] to the mean (N, C, h, w) of their scaled latents, and of a variational
    encoder to its log-variance as well: a tuple of one or two tensors.
    """

    def __init__(self, autoencoder: Autoencoder, latent: LatentSpace) -> None:
        super().__init__()
        self.encoder = autoencoder.encoder  # alone, or its export would hold the decoder's weights as well
        self.latent = latent

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        mean, log_variance = moments(self.encoder(images), variational=self.latent.variational)
        if log_variance is None:
            return (self.latent.scaled(mean),)
        return self.latent.scaled(mean), self.latent.scaled_log_variance(log_variance)


class ScaledDecoder(nn.Module):
    """From scaled latents (N, C, h, w) to images (N, 3, H, W) in [-1, 1]."""

    def __init__(self, autoencoder: Autoencoder, latent: LatentSpace) -> None:
        super().__init__()
        self.decoder = autoencoder.decoder
        self.latent = latent

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(self.latent.unscaled(latents))["rgb"]
        return images


class Pretrained(nn.Module):
    """A trained autoencoder in the scaled latents that diffusion works in.

    `encoder` and `decoder` are what `ScaledEncoder` and `ScaledDecoder` are; called by themselves, they check nothing
    and keep gradients. `encode` and `decode` do neither: they check what they are given, compute in
    `torch.inference_mode` and in evaluation mode, whatever mode the module is in, and give ordinary tensors.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: LatentSpace) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.latent = latent
        self.eval()

    @classmethod
    def of(cls, autoencoder: Autoencoder, latent: LatentSpace) -> Pretrained:
        """Return an autoencoder with its weights as a pretrained one."""
        return cls(ScaledEncoder(autoencoder, latent), ScaledDecoder(autoencoder, latent), latent)

    def encode(self, images: Pictures, generator: torch.Generator | None = None, *, pad: bool = False) -> Tensor:
        """Return the scaled latents (N, C, H / f, W / f) of images; f is `latent.downsampling_factor`.

        `images` is a tensor (N, 3, H, W) of floats in [-1, 1], a picture of Pillow or a list of pictures of one size,
        or RGB bytes as an array of uint8 (H, W, 3) or (N, H, W, 3). H and W must be multiples of f; with `pad`, other
        sizes are padded with the background colour, at the right and at the bottom, and `decode` cuts it off if it is
        given the `size`. With a `generator` the latents of a variational encoder are drawn from its distribution;
        without one they are its mean. Raises ValueError for anything but such images.
        """
        mean, log_variance = self.distribution(images, pad=pad)
        if log_variance is None or generator is None:
            return mean
        drawn = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
        return mean + torch.exp(0.5 * log_variance) * drawn

    def distribution(self, images: Pictures, *, pad: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return mean and log-variance (N, C, h, w) of the scaled latents of images, which are as `encode` takes them.

        The log-variance is None if the encoder is not variational.
        """
        background = self.latent.spec.palette.background_colour
        images = images_of(images, background)
        if pad and images.dim() == 4:
            images = padded(images, self.latent.downsampling_factor, background)
        self.latent.check_images(images)
        with torch.inference_mode(), evaluation_mode(self.encoder):
            mean, *log_variance = self.encoder(images.to(**self._place(images)))
        # Whoever trains on what an inference mode has made is told of it by autograd only when it is too late.
        # They lie in memory as everybody expects it, whatever the network computes in.
        mean, *log_variance = (
            latents.clone(memory_format=torch.contiguous_format) for latents in (mean, *log_variance)
        )
        return mean, log_variance[0] if log_variance else None

    @overload
    def decode(
        self, latents: Tensor, *, size: tuple[int, int] | None = None, as_pil: Literal[False] = False
    ) -> Tensor: ...

    @overload
    def decode(
        self, latents: Tensor, *, size: tuple[int, int] | None = None, as_pil: Literal[True]
    ) -> list[Image.Image]: ...

    def decode(
        self, latents: Tensor, *, size: tuple[int, int] | None = None, as_pil: bool = False
    ) -> Tensor | list[Image.Image]:
        """Return the images (N, 3, h · f, w · f) in [-1, 1] of scaled latents (N, C, h, w); f is
        `latent.downsampling_factor`.

        `size` (height, width) cuts off what `encode` has padded. With `as_pil` they are a list of N pictures of Pillow.
        Raises ValueError for anything but such latents.
        """
        self.latent.check_latents(latents)
        with torch.inference_mode(), evaluation_mode(self.decoder):
            images: Tensor = self.decoder(latents.to(**self._place(latents)))
        if size is not None:
            images = cut(images, size)
        return pictures_of(images) if as_pil else images.clone(memory_format=torch.contiguous_format)

    def forward(self, images: Tensor) -> Tensor:
        """Return the reconstructions (N, 3, H, W) of images, with gradients, in the mode that the module is in."""
        mean, *_ = self.encoder(images)
        rebuilt: Tensor = self.decoder(mean)
        return rebuilt

    def _place(self, given: Tensor) -> Mapping[str, Any]:
        """Return device and dtype of the weights; without weights, those of what is given."""
        like = next(self._tensors(), given)
        return {"device": like.device, "dtype": like.dtype}

    def _tensors(self) -> Iterator[Tensor]:
        return (parameter for parameter in self.parameters() if parameter.is_floating_point())


def load(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    engine: Literal["eager", "compiled"] = "eager",
) -> Pretrained:
    """Return a trained autoencoder, from a run, a checkpoint (.pt) or a folder that `imginav export` wrote.

    A run is given by its folder, or by its name in the experiments folder of `imginav.toml` (`outputs` without one);
    loaded are the weights that its evaluation is of. A folder may also be one of the format `diffusers` that diffusers
    has saved again; a warning says what is not known of it then.

    `encode` takes pictures, or images (N, 3, H, W) in [-1, 1], and gives scaled latents (N, C, h, w), `decode` the way
    back; both compute on `device` in `dtype`. With the engine `compiled`, torch.compile makes them faster, which takes
    its time at the first call of each; it is for runs, checkpoints and the format `safetensors`. The scaling factor of
    a checkpoint is that of the evaluation which lies beside it, of these very weights. Raises UserError where
    there is none, and where the file or folder cannot be loaded.
    """
    path = Path(path)
    registry = installed()
    if path.is_dir() and (is_export(path) or not is_run(path)):
        pretrained = _of_folder(path, registry)
    else:
        pretrained = _of_checkpoint(weights_named(path, log=_silent), registry)
    pretrained = pretrained.to(device=device, dtype=dtype)
    parts = [part for part in pretrained.children() if isinstance(part, (ScaledEncoder, ScaledDecoder))]
    if engine == "compiled" and not parts:
        raise UserError(
            f"{path}: engine = 'compiled' is for runs, checkpoints and exports of the format safetensors; leave it out"
        )
    for part in parts:
        _make_fast(part, engine)
    return pretrained


def _make_fast(part: nn.Module, engine: str) -> None:
    """Keep kernels on a CPU in the memory format in which it convolves fastest, and compile where that is wanted."""
    for parameter in part.parameters():
        if parameter.dim() == 4 and parameter.device.type == "cpu":
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    if engine == "compiled":
        part.compile()


def _silent(_: str) -> None:
    """Leave out what a command would print."""


def _of_folder(path: Path, registry: Registry) -> Pretrained:
    if not is_export(path) and (saved := _saved_elsewhere(path, registry)) is not None:
        return saved
    export = open_export(path, registry)
    encoder, decoder = export.exporter.open(path, export.latent)
    return Pretrained(encoder, decoder, export.latent)


def _saved_elsewhere(path: Path, registry: Registry) -> Pretrained | None:
    """Return an autoencoder that another program has saved again, in a format whose exporter knows it; warns."""
    for found in registry:
        if found.kind == "exporter":
            exporter = cast(Exporter, found.component())
            if (latent := exporter.latent_of(path)) is not None:
                warnings.warn(NOT_KNOWN.format(path=path), UnverifiedWarning, stacklevel=4)
                return Pretrained(*exporter.open(path, latent), latent)
    return None


def _of_checkpoint(path: Path, registry: Registry) -> Pretrained:
    checkpoint = load_checkpoint(path)
    architecture = architecture_of(path, checkpoint, registry)
    model = with_weights(architecture.build(registry, str(path)), checkpoint.model, str(path))
    evaluation = evaluation_of(path, checkpoint, tomli.loads(checkpoint.manifest))
    if evaluation is None:
        raise UserError(
            f"{path}: no evaluation of these weights over all training layouts lies beside it, so that their scaling "
            f"factor is not known; measure it with: imginav evaluate {path}"
        )
    return Pretrained.of(model, latent_space_of(evaluation, architecture.spec, variational=model.variational))


def architecture_of(
    path: Path, checkpoint: Checkpoint, registry: Registry, tables: Mapping[str, Any] | None = None
) -> Architecture:
    """Return what the autoencoder of a checkpoint is built from, by its own manifest or by the `tables` of another one.

    A checkpoint of an earlier version says what its layouts are made of by the layouts alone, which are opened then.
    """
    tables = tables or tomli.loads(checkpoint.manifest)
    spec = checkpoint.spec or dataset_in(tables, registry, str(path)).open().spec
    return Architecture(encoder=tables["encoder"], decoder=tables["decoder"], spec=spec)


def with_weights(model: Autoencoder, weights: Mapping[str, Tensor], where: str) -> Autoencoder:
    """Return an autoencoder with these weights, ready to encode and decode; raises UserError where they do not fit."""
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{where}: does not fit what it describes ({reason}); a plugin may have changed: restore it"
        ) from error
    return model.eval()
