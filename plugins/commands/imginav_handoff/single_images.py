"""`imginav encode`, `decode` and `reconstruct`: single pictures, for people who want to look."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
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
from imginav_handoff.golden import as_images
from imginav_handoff.pretrained import Pretrained, UnverifiedWarning, load

Log = Callable[[str], None]

TILE = 320
"""Side of a layout in the picture of all, in pixels."""

MOST_SHOWN = 24
"""Layouts in that picture."""

SIDE_BY_SIDE = "side_by_side.png"

LATENTS = "latents"
"""The tensor in a file of latents, scaled: (N, C, h, w)."""

BEST = "*_checkpoint_best.pt"


@frozen
class Coding:
    """A trained autoencoder, and the file or folder it came from."""

    pretrained: Pretrained
    source: Path


def open_coding(model: Path | None, experiments: Path, device: str = "auto", log: Log = print) -> Coding:
    """Load a checkpoint or an export; where none is named, the newest best checkpoint in the folder of all runs.

    Raises UserError where there is none, or it cannot be loaded.
    """
    source = model or newest_checkpoint(experiments)
    if model is None:
        log(f"with {source}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnverifiedWarning)
        pretrained = load(source, device=open_device(Machine(device=device)).device)
    for warning in caught:
        log(f"note: {warning.message}")
    return Coding(pretrained, source)


def newest_checkpoint(experiments: Path) -> Path:
    """Return the newest best checkpoint in the folder of all runs; raises UserError where there is none."""
    found = sorted(experiments.glob(f"*/{BEST}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(
            f"no trained autoencoder lies in {experiments}; name a checkpoint (.pt) or an export with --model"
        )
    return found[-1]


def encode_file(coding: Coding, picture: Path, to: Path, size: int | None, log: Log = print) -> None:
    """Write the scaled latents of a picture, with what made them, as safetensors."""
    _refuse_suffix(to, ".safetensors")
    latent = coding.pretrained.latent
    mean, log_variance = coding.pretrained.distribution(as_images(_read(coding, picture, size)[None]))
    tensors = {LATENTS: mean} if log_variance is None else {LATENTS: mean, "log_variance": log_variance}
    made_by = {
        "weights_sha256": latent.weights_sha256,
        "scaling_factor": str(latent.scaling_factor),
        "shift_factor": str(latent.shift_factor),
        "scaled": "true",
        "picture": picture.name,
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
        decoded = to_bytes(coding.pretrained.decode(latents))
    except ValueError as error:
        raise UserError(f"{latents_file}: {error}; is it of another autoencoder?") from None
    places = [to] if len(decoded) == 1 else [to.with_stem(f"{to.stem}_{n:03d}") for n in range(len(decoded))]
    for place, pixels in zip(places, decoded, strict=True):
        pictures.write_png(place, Image.fromarray(pixels))
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    log(f"{places[0]}{more}: {decoded.shape[2]}×{decoded.shape[1]} pixels")


def reconstruct_files(coding: Coding, layouts: Sequence[Path], to: Path, size: int | None, log: Log = print) -> None:
    """Write what becomes of pictures that are encoded and decoded.

    `to` is the file for a single one, or a folder: one file for each, and all of them side by side with their errors.
    """
    single = to.suffix.lower() == ".png"
    if single and len(layouts) > 1:
        raise UserError(f"{to}: is one file for {len(layouts)} pictures; name a folder")
    places = [to] if single else _places(layouts, to)
    rows: list[list[Pixels]] = []
    titles: list[str] = []
    for layout, place in zip(layouts, places, strict=True):
        pixels = _read(coding, layout, size)
        image = as_images(pixels[None]).to(next(coding.pretrained.parameters(), torch.zeros(())).device)
        rebuilt = coding.pretrained.decode(coding.pretrained.encode(image))
        decoded = to_bytes(rebuilt)[0]
        pictures.write_png(place, Image.fromarray(decoded))
        line = _agreement(coding, pixels.numpy(), decoded, float((rebuilt - image).square().mean()))
        log(f"{place}: {line}")
        if len(rows) < MOST_SHOWN:
            rows.append([pixels.numpy(), decoded, error_map(rebuilt, image)])
            titles.append(in_one_line(f"{layout.name}  {line}"))
    if not single:
        captions = ["layout", "reconstruction", f"error, 0 to {LARGEST_ERROR}"]
        pictures.write_png(to / SIDE_BY_SIDE, pictures.grid(rows, captions, TILE, titles))
        log(f"look at {to / SIDE_BY_SIDE}")


def _places(layouts: Sequence[Path], to: Path) -> list[Path]:
    places = [to / f"{layout.stem}.png" for layout in layouts]
    if twice := {place.name for place in places if places.count(place) > 1}:
        raise UserError(f"{to}: several pictures would be written to {sorted(twice)[0]}; rename one of them")
    sources = {layout.resolve() for layout in layouts}
    if overwritten := [place for place in places if place.resolve() in sources]:
        raise UserError(f"{to}: {overwritten[0]} would be overwritten by its reconstruction; name another folder")
    if SIDE_BY_SIDE in {place.name for place in places}:
        raise UserError(f"{to}: a picture named {SIDE_BY_SIDE} would be lost; rename it")
    return places


def _agreement(coding: Coding, pixels: Pixels, decoded: Pixels, mse: float) -> str:
    palette = coding.pretrained.latent.spec.palette
    right = float((palette.nearest(pixels) == palette.nearest(decoded)).mean())
    return f"MSE {mse:.3g}, PSNR {psnr_db(mse):.1f} dB, {right:.2%} of the pixels in their class"


def _read(coding: Coding, path: Path, size: int | None) -> Tensor:
    """Return a picture as bytes (H, W, 3); raises UserError where it is none, or has no size that can be encoded."""
    latent = coding.pretrained.latent
    try:
        pixels = read_image(path, size, latent.spec.palette.background_colour)
    except UnusableImageError as error:
        raise UserError(f"{path}: cannot be read as a picture ({error}); take a whole PNG file") from None
    factor = latent.downsampling_factor
    if pixels.shape[0] % factor or pixels.shape[1] % factor:
        where = "--size" if size else str(path)
        raise UserError(
            f"{where}: {pixels.shape[1]}×{pixels.shape[0]} pixels cannot be encoded, as both sides must be multiples "
            f"of {factor}; bring it to a square with --size {latent.image_size}"
        )
    return torch.from_numpy(pixels.copy())


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


def _refuse_suffix(path: Path, suffix: str) -> None:
    if path.suffix.lower() != suffix:
        raise UserError(f"{path}: expected a name that ends in {suffix}; take {path.with_suffix(suffix)}")
