"""`latent.json`: the latents of one autoencoder, and how they are scaled for diffusion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen
from torch import Tensor

from imginav.errors import UserError
from imginav.manifest.json_record import load_record_with, save_record
from imginav.plugin.checkpoint import spec_of, spec_table
from imginav.plugin.data_spec import DataSpec
from imginav.runs.evaluation_result import EvaluationResult

NETWORK, SCALED = "network", ("scaling_factor", "shift_factor", "means", "stds")
"""Of `latent.json`: where it says of the network alone what depends on the scaling, and what that is."""

LARGEST = 1.001
"""Of the values of images in [-1, 1]; half precision rounds."""


@frozen(kw_only=True)
class LatentSpace:
    """What a diffusion model must know of the latents that it is trained on.

    Scaled latents are `(latents - shift_factor) * scaling_factor`; they have zero mean and unit standard deviation over
    the training layouts. `latents / scaling_factor + shift_factor` undoes it before decoding.
    """

    image_size: int  # side in pixels of the layouts it was trained on
    channels: int
    downsampling_factor: int  # pixels of the image per cell of the latent, along each side
    variational: bool
    scaling_factor: float
    shift_factor: float  # the mean of all values
    means: tuple[float, ...]  # of each channel
    stds: tuple[float, ...]  # of each channel; of a variational encoder, of latents that are drawn
    dead_channels: tuple[int, ...]  # from 0; they carry next to nothing
    layouts: int  # training layouts that all of it was measured on
    spec: DataSpec  # the classes with their colours, and the types of a layout
    weights_sha256: str  # of the weights by name, as `checkpoint.sha256_of` has it

    @property
    def side(self) -> int:
        """Cells of the latent along each side, at the training size."""
        return self.image_size // self.downsampling_factor

    def scaled(self, latents: Tensor) -> Tensor:
        """Return an encoder's latents as diffusion takes them."""
        return (latents - self.shift_factor) * self.scaling_factor

    def unscaled(self, latents: Tensor) -> Tensor:
        """Return diffusion's latents as the decoder takes them."""
        return latents / self.scaling_factor + self.shift_factor

    def scaled_log_variance(self, log_variance: Tensor) -> Tensor:
        """Return the log-variance of an encoder's latents as that of scaled ones."""
        return log_variance + 2 * math.log(self.scaling_factor)

    def left_with(self, *, scaling_factor: float = 1.0, shift_factor: float = 0.0) -> LatentSpace:
        """Return the latent space of an exported encoder that has done all of the scaling except for these factors.

        Means and standard deviations are those of what it gives; these factors then lead to the same scaled latents.
        """
        factor = self.scaling_factor / scaling_factor  # by which the exported encoder multiplies
        offset = self.shift_factor - shift_factor / factor  # which it takes off before
        return evolve(
            self,
            scaling_factor=scaling_factor,
            shift_factor=shift_factor,
            means=tuple((mean - offset) * factor for mean in self.means),
            stds=tuple(std * factor for std in self.stds),
        )

    def check_images(self, images: Tensor) -> None:
        """Raise ValueError where these are no images (N, 3, H, W) in [-1, 1] that can be encoded."""
        factor = self.downsampling_factor
        if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"expected images (N, 3, H, W) of floats in [-1, 1], found {_shown(images)}")
        if images.shape[2] % factor or images.shape[3] % factor:
            raise ValueError(f"expected images whose sides are multiples of {factor}, found {_shown(images)}")
        if images.numel() and not float(images.detach().abs().max()) <= LARGEST:
            low, high = float(images.detach().min()), float(images.detach().max())
            raise ValueError(
                f"expected images in [-1, 1], found values from {low:.4g} to {high:.4g}; of bytes, take x / 127.5 - 1"
            )

    def check_latents(self, latents: Tensor) -> None:
        """Raise ValueError where these are no latents (N, C, h, w) that can be decoded."""
        if latents.dim() != 4 or latents.shape[1] != self.channels or not latents.is_floating_point():
            raise ValueError(f"expected latents (N, {self.channels}, h, w) of floats, found {_shown(latents)}")

    def save(self, path: Path, *, network: LatentSpace | None = None, note: str = "") -> None:
        """Write `latent.json`, whole or not at all; `load_latent_space` reads it back.

        Beside an exported encoder that scales by itself it says what is left to do, in a `note` as well, and what is
        true of the `network` alone, which is what is read back.
        """
        own = asdict(self, filter=lambda attribute, _: attribute.name != "spec")
        f = self.downsampling_factor
        table = {
            "height": self.side,
            "width": self.side,
            **own,
            "size": f"an image of H×W pixels has latents of H/{f} × W/{f} × {self.channels} (H×W×C)",
            "to_scaled": "(latents - shift_factor) * scaling_factor, after encoding",
            "from_scaled": "latents / scaling_factor + shift_factor, before decoding",
            **({"note": note} if note else {}),
            **({NETWORK: {key: getattr(network, key) for key in SCALED}} if network else {}),
            "images": {"range": [-1.0, 1.0], "channel_order": "RGB", "axes": "NCHW", "from_bytes": "x / 127.5 - 1"},
            "layouts_made_of": spec_table(self.spec),
        }
        save_record(path, table)


def latent_space_of(evaluation: EvaluationResult, spec: DataSpec, *, variational: bool) -> LatentSpace:
    """Return the latent space that an evaluation has measured; raises UserError where it cannot be scaled."""
    latent = evaluation.latent_statistics
    if latent is None or not math.isfinite(latent.scaling_factor) or latent.scaling_factor <= 0:
        raise UserError(
            f"the latents of {evaluation.experiment} have no scaling factor: they are the same for all layouts, or not "
            "finite; train it longer, or take another checkpoint"
        )
    drawn = [math.hypot(c.std, c.posterior_std or 0.0) if variational else c.std for c in latent.channels]
    return LatentSpace(
        image_size=evaluation.latent[0] * evaluation.downsampling_factor,
        channels=evaluation.latent[2],
        downsampling_factor=evaluation.downsampling_factor,
        variational=variational,
        scaling_factor=latent.scaling_factor,
        shift_factor=latent.mean,
        means=tuple(channel.mean for channel in latent.channels),
        stds=tuple(drawn),
        dead_channels=tuple(latent.dead_channels),
        layouts=latent.layouts,
        spec=spec,
        weights_sha256=evaluation.weights_sha256,
    )


def load_latent_space(path: Path, *, as_stated: bool = False) -> LatentSpace:
    """Read a `latent.json`; raises UserError where there is none, or it is damaged.

    Beside an export it has the latent space of the network, and is `as_stated` that of the exported encoder.
    """
    of_table = _of_table if as_stated else lambda table: _of_table({**table, **table.get(NETWORK, {})})
    return load_record_with(path, of_table, "a description of latents", "make it again")


def _of_table(table: Mapping[str, Any]) -> LatentSpace:
    return LatentSpace(
        image_size=int(table["image_size"]),
        channels=int(table["channels"]),
        downsampling_factor=int(table["downsampling_factor"]),
        variational=bool(table["variational"]),
        scaling_factor=float(table["scaling_factor"]),
        shift_factor=float(table["shift_factor"]),
        means=tuple(map(float, table["means"])),
        stds=tuple(map(float, table["stds"])),
        dead_channels=tuple(map(int, table["dead_channels"])),
        layouts=int(table["layouts"]),
        spec=spec_of(table["layouts_made_of"]),
        weights_sha256=str(table["weights_sha256"]),
    )


def _shown(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"
