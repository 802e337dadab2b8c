"""`imginav encode`, `decode` and `reconstruct`: single pictures, for people who want to look."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from imginav.errors import UserError, in_one_line
from imginav.files import write_bytes
from imginav.manifest.tables import Machine
from imginav.pixels import psnr_db, to_bytes
from imginav.training.device import open_device
from imginav_datasets.image_files import UnusableImageError, read_image
from imginav_evaluation import pictures
from imginav_evaluation.error_maps import LARGEST_ERROR, error_map
from imginav_evaluation.pictures import Pixels
from imginav_handoff.images import as_images, cut, padded
from imginav_handoff.picture_files import PictureFile, find_pictures, places_in
from imginav_handoff.pretrained import Pretrained, UnverifiedWarning, load
from imginav_reports.run_weights import weights_named

Log = Callable[[str], None]

TILE = 320
"""Side of a layout in the picture of all, in pixels."""

MOST_SHOWN = 24
"""Layouts in that picture."""

SIDE_BY_SIDE = "side_by_side.png"

SUFFIX = ".safetensors"

LATENTS = "latents"
"""The tensor in a file of latents, scaled: (N, C, h, w)."""

PICTURE_SIZE = "picture_size"
"""The key in the metadata of such a file with the size of the picture without padding, as height×width."""


@frozen
class Coding:
    """A trained autoencoder, and the file or folder it came from."""

    pretrained: Pretrained
    source: Path


@frozen
class ReadPicture:
    """A picture as an autoencoder takes it."""

    image: Tensor  # (1, 3, H, W) in [-1, 1], padded
    pixels: Pixels  # (height, width, 3), without padding

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, without padding."""
        return self.pixels.shape[0], self.pixels.shape[1]


def open_coding(model: Path | None, site: Path | None = None, device: str = "auto", log: Log = print) -> Coding:
    """Load a run, a checkpoint or an export; where none is named, the newest finished run of the site file's folder.

    Raises UserError where there is none, or it cannot be loaded.
    """
    source = weights_named(model, site, log)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnverifiedWarning)
        pretrained = load(source, device=open_device(Machine(device=device)).device)
    for warning in caught:
        log(f"note: {warning.message}")
    return Coding(pretrained, source)


def encode_files(coding: Coding, given: Sequence[str | Path], to: Path, size: int | None, log: Log = print) -> None:
    """Write the scaled latents of pictures, with what made them, as safetensors.

    `given` are files, folders or patterns; `to` is the file for a single picture, or a folder.
    """
    single = to.suffix.lower() == SUFFIX
    found = find_pictures(given, to)
    if single:
        _refuse_several(to, found)
    elif len(found) == 1 and to.suffix:
        _refuse_suffix(to, SUFFIX)
    written = 0
    for picture, place in zip(found, [to] if single else places_in(to, found, SUFFIX), strict=True):
        with skipped_unless_named(picture, log):
            _encode(coding, picture.path, place, size, log)
            written += 1
    _refuse_nothing(to, found, written)


def _encode(coding: Coding, path: Path, to: Path, size: int | None, log: Log) -> None:
    latent = coding.pretrained.latent
    read = _read(coding, path, size, log)
    mean, log_variance = coding.pretrained.distribution(read.image)
    tensors = {LATENTS: mean} if log_variance is None else {LATENTS: mean, "log_variance": log_variance}
    made_by = {
        "weights_sha256": latent.weights_sha256,
        "scaling_factor": str(latent.scaling_factor),
        "shift_factor": str(latent.shift_factor),
        "scaled": "true",
        "picture": path.name,
        PICTURE_SIZE: "×".join(map(str, read.size)),
    }
    write_bytes(to, save({name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()}, made_by))
    height, width, channels = mean.shape[2], mean.shape[3], mean.shape[1]
    log(
        f"{to}: latents {height}×{width}×{channels} (H×W×C), scaled by {latent.scaling_factor:.5g}, "
        f"mean {float(mean.mean()):.3g}, standard deviation {float(mean.std()):.3g}"
    )


def decode_file(coding: Coding, latents_file: Path, to: Path, log: Log = print) -> None:
    """Write the pictures of scaled latents: `to`, or with several of them `to_000.png`, `to_001.png` and so on."""
    _refuse_suffix(to, ".png")
    latents, made_by = _read_latents(latents_file)
    own = coding.pretrained.latent.weights_sha256
    if (other := made_by.get("weights_sha256")) and other != own:
        raise UserError(
            f"{latents_file}: was encoded with other weights (SHA-256 {other[:12]}…) than {coding.source} has "
            f"({own[:12]}…), and would decode to noise; name the autoencoder of these latents with --model"
        )
    try:
        decoded = to_bytes(coding.pretrained.decode(latents, size=_size_of(made_by)))
    except ValueError as error:
        raise UserError(f"{latents_file}: {error}; is it of another autoencoder?") from None
    places = [to] if len(decoded) == 1 else [to.with_stem(f"{to.stem}_{n:03d}") for n in range(len(decoded))]
    for place, pixels in zip(places, decoded, strict=True):
        pictures.write_png(place, Image.fromarray(pixels))
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    log(f"{places[0]}{more}: {decoded.shape[2]}×{decoded.shape[1]} pixels")


def reconstruct_files(
    coding: Coding, given: Sequence[str | Path], to: Path, size: int | None, log: Log = print
) -> None:
    """Write what becomes of pictures that are encoded and decoded.

    `given` are files, folders or patterns; `to` is the file for a single picture, or a folder: one file for each, and
    all of them side by side with their errors.
    """
    single = to.suffix.lower() == ".png"
    found = find_pictures(given, to)
    if single:
        _refuse_several(to, found)
    places = [to] if single else places_in(to, found, ".png", SIDE_BY_SIDE)
    rows: list[list[Pixels]] = []
    titles: list[str] = []
    for picture, place in zip(found, places, strict=True):
        with skipped_unless_named(picture, log):
            read = _read(coding, picture.path, size, log)
            rebuilt = coding.pretrained.decode(coding.pretrained.encode(read.image), size=read.size)
            image = cut(read.image, read.size).to(rebuilt.device)
            decoded = to_bytes(rebuilt)[0]
            pictures.write_png(place, Image.fromarray(decoded))
            line = _agreement(coding, read.pixels, decoded, float((rebuilt - image).square().mean()))
            log(f"{place}: {line}")
            if len(rows) < MOST_SHOWN:
                rows.append([read.pixels, decoded, error_map(rebuilt, image)])
                titles.append(in_one_line(f"{picture.place}  {line}"))
    _refuse_nothing(to, found, len(rows))
    if not single:
        captions = ["layout", "reconstruction", f"error, 0 to {LARGEST_ERROR}"]
        pictures.write_png(to / SIDE_BY_SIDE, pictures.grid(rows, captions, TILE, titles))
        log(f"look at {to / SIDE_BY_SIDE}")


@contextmanager
def skipped_unless_named(picture: PictureFile, log: Log) -> Iterator[None]:
    """Say what is wrong with a picture of a folder or pattern and go on; one that was named itself ends the command."""
    try:
        yield
    except UnreadablePictureError as error:
        if picture.named:
            raise
        log(f"skipped: {error}")


def _refuse_nothing(to: Path, found: Sequence[PictureFile], written: int) -> None:
    if not written:
        raise UserError(f"{to}: nothing is written, as none of {len(found)} pictures can be read; name others")


def _refuse_several(to: Path, found: Sequence[PictureFile]) -> None:
    if len(found) > 1:
        raise UserError(f"{to}: is one file for {len(found)} pictures; name a folder")


def _agreement(coding: Coding, pixels: Pixels, decoded: Pixels, mse: float) -> str:
    palette = coding.pretrained.latent.spec.palette
    right = float((palette.nearest(pixels) == palette.nearest(decoded)).mean())
    return f"MSE {mse:.3g}, PSNR {psnr_db(mse):.1f} dB, {right:.2%} of the pixels in their class"


class UnreadablePictureError(UserError):
    """A picture file that cannot be read."""


def _read(coding: Coding, path: Path, size: int | None, log: Log) -> ReadPicture:
    """Read a picture, and pad it with background to a size that can be encoded; raises UnreadablePictureError."""
    latent = coding.pretrained.latent
    background, factor = latent.spec.palette.background_colour, latent.downsampling_factor
    try:
        pixels = read_image(path, size, background)
    except UnusableImageError as error:
        raise UnreadablePictureError(f"{path}: cannot be read as a picture ({error}); take a whole PNG file") from None
    image = as_images(torch.from_numpy(pixels.copy())[None])
    whole = padded(image, factor, background)
    if whole is not image:
        log(
            f"{path}: {pixels.shape[1]}×{pixels.shape[0]} pixels, padded with background to "
            f"{whole.shape[3]}×{whole.shape[2]}, as both sides must be multiples of {factor}"
        )
    return ReadPicture(whole, pixels)


def _read_latents(path: Path) -> tuple[Tensor, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            made_by: dict[str, Any] = file.metadata() or {}
            latents: Tensor = file.get_tensor(LATENTS)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: cannot be read as latents ({error}); imginav encode writes such files, with a tensor "
            f"{LATENTS!r} (N, C, h, w)"
        ) from None
    return (latents[None] if latents.dim() == 3 else latents).float(), made_by


def _size_of(made_by: Mapping[str, str]) -> tuple[int, int] | None:
    """Return height and width of the picture that latents were encoded from, as far as the file says."""
    height, _, width = made_by.get(PICTURE_SIZE, "").partition("×")
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() else None


def _refuse_suffix(path: Path, suffix: str) -> None:
    if path.suffix.lower() != suffix:
        raise UserError(f"{path}: expected a name that ends in {suffix}; take {path.with_suffix(suffix)}")
