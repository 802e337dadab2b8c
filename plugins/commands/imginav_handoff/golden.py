"""The golden triple of an export: an input, its latent and its output, by which anybody can see that it still works."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve, frozen
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from imginav.data.batches import rgb_of
from imginav.data.loader import first_samples
from imginav.errors import UserError
from imginav.files import write_bytes
from imginav.pixels import to_bytes
from imginav.plugin.data_spec import DataSpec
from imginav.plugin.palette import Palette
from imginav.plugin.registry import Registry
from imginav_evaluation.pictures import Pixels
from imginav_handoff.architecture import dataset_in
from imginav_handoff.export_folder import Agreement
from imginav_handoff.images import as_images
from imginav_handoff.pretrained import Pretrained

PIXEL_OFF = 8
"""Of 255, in any channel: a pixel that lies further off is counted. The nearest colours of the palette are 40 apart."""

WHOLE, CROPS = "whole", "crops"
"""One layout of the training size, and a batch of crops of it that are not square: batch and size are dynamic."""

RECTANGLES = 24
"""Of the layout that is drawn where there is none at hand."""

DRAWN = "rectangles in the colours of the classes, as no layouts were at hand"

PARTS = ("images", "latents", "decoded")
"""Of a triple, in its file."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@frozen
class Tolerance:
    """How far off an export may be in one precision."""

    latent_error: float  # root mean square, in standard deviations of the latent
    pixels_off: float  # share of pixels


TOLERANCES = {
    "fp32": Tolerance(latent_error=5e-3, pixels_off=1e-3),
    "fp16": Tolerance(latent_error=1e-2, pixels_off=5e-3),
    "bf16": Tolerance(latent_error=5e-2, pixels_off=2e-2),
}
"""GPUs multiply fp32 in TF32 by default, which has the 10 bits of fp16's mantissa; bf16 has 7."""


@frozen
class Triple:
    """What goes in and what must come out."""

    images: Tensor  # bytes (N, H, W, 3)
    latents: Tensor  # scaled, of fp32 on a CPU (N, C, h, w)
    decoded: Tensor  # bytes (N, H, W, 3), of these latents


def golden_images(
    tables: Mapping[str, Any], spec: DataSpec, registry: Registry, size: int, factor: int
) -> tuple[dict[str, Tensor], str]:
    """Return bytes (N, H, W, 3) by the name of the triple, and of what layout they are.

    It is the first layout of the set that `tables`, those of the manifest, name; where that cannot be opened, one is
    drawn of rectangles in the colours of the classes.
    """
    pixels, name = _layout(tables, spec, registry, size)
    high, wide = max(1, size // factor // 4) * factor, max(1, size // factor // 2) * factor
    places = [(0, 0), ((size - high) // 2, (size - wide) // 2), (size - high, size - wide)]
    crops = np.stack([pixels[y : y + high, x : x + wide] for y, x in places])
    return {WHOLE: torch.from_numpy(pixels[None].copy()), CROPS: torch.from_numpy(crops)}, name


def _layout(tables: Mapping[str, Any], spec: DataSpec, registry: Registry, size: int) -> tuple[Pixels, str]:
    try:
        source = dataset_in(tables, registry, "golden triple").open()
        (sample,), unreadable = first_samples(source, range(len(source)), 1)
        return rgb_of(sample, spec.palette), f"{source.name(len(unreadable))}"
    except (UserError, ValueError):
        return drawn_rectangles(spec.palette, size), DRAWN


def drawn_rectangles(palette: Palette, size: int) -> Pixels:
    """Return RGB bytes (size, size, 3) of rectangles in the colours of a palette, always the same ones."""
    rng = np.random.default_rng(0)
    classes = np.full((size, size), palette.names.index(palette.background), dtype=np.uint8)
    for number in range(RECTANGLES):
        top, left = rng.integers(0, size, 2)
        high, wide = rng.integers(max(1, size // 32), size // 3, 2)
        classes[top : top + high, left : left + wide] = number % len(palette)
    return palette.colour(classes)


def make_triples(pretrained: Pretrained, images: Mapping[str, Tensor]) -> dict[str, Triple]:
    """Return what a pretrained autoencoder in fp32 on the CPU makes of images."""
    triples = {}
    for name, pixels in images.items():
        latents = pretrained.encode(as_images(pixels))
        triples[name] = Triple(pixels, latents, torch.from_numpy(to_bytes(pretrained.decode(latents))))
    return triples


def save_triples(path: Path, triples: Mapping[str, Triple]) -> None:
    """Write the triples as safetensors, whole or not at all."""
    named = {name: (triple.images, triple.latents, triple.decoded) for name, triple in triples.items()}
    tensors = {f"{name}.{part}": own[place] for name, own in named.items() for place, part in enumerate(PARTS)}
    write_bytes(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def load_triples(path: Path) -> dict[str, Triple]:
    """Read the triples; raises UserError where they cannot be."""
    try:
        tensors = load_file(path)
        return {name: Triple(*(tensors[f"{name}.{part}"] for part in PARTS)) for name in (WHOLE, CROPS)}
    except (OSError, ValueError, LookupError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); export it again") from None


def agreement(pretrained: Pretrained, triples: Mapping[str, Triple], precision: str) -> Agreement:
    """Return how far an autoencoder, as it is and where it is, lies off the triples.

    Every value that it computes on the way is looked at: colours of classes would hide what is not finite.
    """
    errors, off = [], []
    with watched(pretrained) as seen:
        for triple in triples.values():
            latents = pretrained.encode(as_images(triple.images)).float().cpu()
            decoded = to_bytes(pretrained.decode(triple.latents))
            errors.append(float((latents - triple.latents).square().mean().sqrt()))
            differences = np.abs(decoded.astype(np.int16) - triple.decoded.numpy().astype(np.int16))
            off.append(float((differences.max(axis=-1) > PIXEL_OFF).mean()))
    finite = [error for error in errors if math.isfinite(error)]
    measured = Agreement(latent_error=max(finite, default=0.0), pixels_off=max(off), largest_value=seen.largest)
    not_finite = "" if len(finite) == len(errors) else "latents are not finite"
    return evolve(measured, fault=seen.fault or not_finite or _fault(measured, TOLERANCES[precision]))


def _fault(measured: Agreement, allowed: Tolerance) -> str:
    if measured.latent_error > allowed.latent_error:
        return f"latents are {measured.latent_error:.2g} standard deviations off; {allowed.latent_error:g} are allowed"
    if measured.pixels_off > allowed.pixels_off:
        return f"{measured.pixels_off:.2%} of the decoded pixels are off; {allowed.pixels_off:.2%} are allowed"
    return ""


class Seen:
    """What the values inside of a network were."""

    def __init__(self) -> None:
        self.largest = 0.0
        self.fault = ""

    def look(self, name: str, value: object) -> None:
        """Take in what a part of the network has computed."""
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            largest = float(value.abs().max())
            if math.isfinite(largest):
                self.largest = max(self.largest, largest)
            else:
                self.fault = self.fault or f"{name} gives {largest} in {str(value.dtype).removeprefix('torch.')}"
        elif isinstance(value, (dict, list, tuple)):
            for part in value.values() if isinstance(value, dict) else value:
                self.look(name, part)


@contextmanager
def watched(module: nn.Module) -> Iterator[Seen]:
    """Look at what every part of a module computes inside of the block."""
    seen = Seen()

    def hook_of(name: str) -> Any:
        return lambda _module, _arguments, output: seen.look(name, output)

    hooks = [part.register_forward_hook(hook_of(name)) for name, part in module.named_modules() if name]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
