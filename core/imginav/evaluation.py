"""What the weights that a run leaves are worth: figures, and pictures of the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np
import torch
from attrs import evolve, frozen
from rich.console import Console
from rich.progress import track
from torch import Tensor

from imginav import pictures
from imginav.architecture import network_sha256
from imginav.autoencoder import parameter_count
from imginav.batches import rgb_of
from imginav.checkpoint import sha256_of
from imginav.components import Sample
from imginav.data import first_samples
from imginav.device import to_bytes
from imginav.latency import latency_of
from imginav.latent import Coder, decoded_path, latent_statistics, path_length_ratio, spherical, straight, with_decoding
from imginav.loading import ResolvedManifest
from imginav.outcome import Interpolation, Latent, Outcome, Pair, RankedLayout
from imginav.palette import Palette
from imginav.pictures import Pixels
from imginav.reconstruction import Reconstructions
from imginav.records import code_version, utc_now
from imginav.size import size_of
from imginav.trainer import Trainer
from imginav.validation import validate

T = TypeVar("T")

TILE = 160
"""Side of a layout in the pictures, in pixels."""

NAME_CHARACTERS = 60
"""Of a layout's name above its pictures, the last ones: of a path, the file."""

LARGEST_ERROR = 0.5
"""In [-1, 1], of a pixel's mean absolute error, from which on error maps are at their brightest."""

INTERPOLATION, WORST, BEST = "interpolation.png", "worst.png", "best.png"
LAYOUTS = "evaluation_layouts.csv"


@frozen
class Shown:
    """A validation layout as a sample of bytes (1, H, W, 3), with its name."""

    name: str
    pixels: Tensor


def evaluate(trainer: Trainer, resolved: ResolvedManifest, folder: Path, *, timed: bool) -> Outcome:
    """Measure the weights that a trainer holds, over all validation layouts, and draw pictures into a folder.

    Without `timed` no times are taken: beside other work they would mean nothing. Raises Interrupted between two
    batches where the run is asked to leave, and UserError where a metric is told what cannot be.
    """
    manifest, data = resolved.manifest, trainer.data
    names = _names(trainer)
    metrics, seen, indices = _rebuild(trainer, resolved)
    ranked = [names[index] for index in indices]
    has_rgb = "rgb" in trainer.model.output_names
    reconstruction = seen.summary(ranked, manifest.evaluation.extremes)
    seen.write_csv(folder / LAYOUTS, ranked)
    if has_rgb:
        _draw_ranked(folder / WORST, reconstruction.worst, trainer, names)
        _draw_ranked(folder / BEST, reconstruction.best, trainer, names)
    side = data.image_size // manifest.encoder.downsampling_factor
    phase = manifest.phase
    return Outcome(
        title=phase.heading if resolved.name == phase.experiment else f"{phase.heading} · {resolved.name}",
        experiment=phase.experiment,
        weights_epoch=trainer.weights_epoch,
        epochs=trainer.epoch,
        stop_reason=trainer.stop_reason or ("all epochs done" if trainer.epoch == trainer.epochs else ""),
        best_epoch=trainer.best.epoch,
        monitor=trainer.best.metric,
        metrics=metrics,
        flat_background_mse=seen.flat_background_mse,
        latent=(side, side, manifest.encoder.latent_channels),
        downsampling_factor=manifest.encoder.downsampling_factor,
        encoder_parameters=parameter_count(trainer.model.encoder),
        decoder_parameters=parameter_count(trainer.model.decoder),
        train_layouts=len(data.split.train),
        validation_layouts=len(data.split.validation),
        split_by=data.split.by,
        trial=resolved.trial,
        notes=(*trainer.notes, *data.left_out),
        data=data.source.describe(),
        evaluated=utc_now(),
        code_version=code_version(),
        weights_sha256=sha256_of(trainer.model.state_dict()),
        network_sha256=network_sha256(resolved.tables),
        reconstruction=reconstruction,
        latent_statistics=_latent(trainer, resolved),
        interpolation=_interpolate(folder / INTERPOLATION, trainer, resolved) if has_rgb else None,
        size=size_of(manifest, data.source.spec),
        latency=latency_of(trainer.model, data.image_size, trainer.device) if timed else None,
    )


def _rebuild(trainer: Trainer, resolved: ResolvedManifest) -> tuple[dict[str, float], Reconstructions, list[int]]:
    """Return the metrics of all validation layouts, what is known of each, and their indices in that order."""
    data, model = trainer.data, trainer.model
    metrics = resolved.manifest.evaluation.metrics
    seen = Reconstructions(metrics, data.source.spec, model.output_names, data.image_size, trainer.device)
    indices: list[int] = []

    def batches() -> Iterator[dict[str, Tensor]]:
        for loaded in trainer.unless_asked(data.whole_batches(data.split.validation)):
            yield loaded.layouts
            indices.extend(loaded.indices)

    total = len(data.split.validation)
    shown = _with_progress(batches(), "evaluating reconstructions", -(-total // data.whole_batch_size))
    measured = validate(model, trainer.objective, shown, trainer.device, seen.see)
    return {**seen.figures(), **measured}, seen, indices


def _latent(trainer: Trainer, resolved: ResolvedManifest) -> Latent:
    """Return the statistics of the latent over training layouts, and what decoding makes of it."""
    settings, data = resolved.manifest.evaluation, trainer.data
    indices = data.split.train[: settings.latent_layouts]
    batches = (loaded.layouts for loaded in trainer.unless_asked(data.whole_batches(indices)))
    total = -(-len(indices) // data.whole_batch_size)
    latent = latent_statistics(trainer.model, _with_progress(batches, "encoding layouts", total), trainer.device)
    latent = evolve(latent, whole_split=len(indices) == len(data.split.train))
    if "rgb" not in trainer.model.output_names:
        return latent
    layouts = _first(trainer, settings.sampled_layouts)
    shown = _with_progress(trainer.unless_asked(layouts), "adding noise to latents", len(layouts))
    pixels = (layout.pixels for layout in shown)
    return with_decoding(latent, trainer.model, pixels, settings.noise, trainer.device)


@torch.no_grad()
def _interpolate(path: Path, trainer: Trainer, resolved: ResolvedManifest) -> Interpolation:
    """Draw what lies between pairs of validation layouts, and return how smoothly it changes."""
    settings = resolved.manifest.evaluation
    layouts = _first(trainer, 2 * settings.pairs)
    if len(layouts) == 1:  # the way runs from it to itself
        layouts *= 2
    coder = Coder(trainer.model, trainer.device)
    trainer.model.eval()
    rows: list[list[Pixels]] = []
    titles, pairs = [], []
    for first, second in zip(layouts[::2], layouts[1::2], strict=False):
        start, end = (coder.encode(trainer.device.images({"rgb": layout.pixels})) for layout in (first, second))
        ratios = {}
        for name, way in (("straight", straight), ("spherical", spherical)):
            images = list(decoded_path(start, end, way, settings.steps, coder))
            ratios[name] = path_length_ratio(images)
            strip = [to_bytes(image)[0] for image in images]
            rows.append([first.pixels[0].numpy(), *strip, second.pixels[0].numpy()])
            ratio = f"{ratios[name]:.3f}" if math.isfinite(ratios[name]) else "none, since both ends are the same"
            titles.append(f"{name}: path length over straight distance {ratio}")
        pairs.append(Pair(first=first.name, second=second.name, **ratios))
    shares = [f"{step / (settings.steps - 1):.2f}" for step in range(settings.steps)]
    captions = ["first layout", *shares, "second layout"]
    pictures.write_png(path, pictures.grid(rows, captions, TILE, titles))
    return Interpolation(
        steps=settings.steps,
        straight=float(np.mean([pair.straight for pair in pairs])),
        spherical=float(np.mean([pair.spherical for pair in pairs])),
        pairs=tuple(pairs),
    )


@torch.no_grad()
def _draw_ranked(path: Path, ranked: Sequence[RankedLayout], trainer: Trainer, names: Sequence[str]) -> None:
    """Draw layouts with their reconstructions, the nearest classes of these where there are any, and the errors."""
    spec = trainer.data.source.spec
    has_classes = "segmentation" in spec.targets
    coder = Coder(trainer.model, trainer.device)
    trainer.model.eval()
    place = {name: index for index, name in enumerate(names)}
    rows, titles = [], []
    for layout in ranked:
        original = _alone(trainer.data.source.read(place[layout.name]), spec.palette)
        image = trainer.device.images({"rgb": original})
        rebuilt = coder.decode(coder.encode(image))
        pixels = to_bytes(rebuilt)[0]
        classes = [spec.palette.colour(spec.palette.nearest(pixels))] if has_classes else []
        rows.append([original[0].numpy(), pixels, *classes, error_map(rebuilt, image)])
        titles.append(f"{layout.name[-NAME_CHARACTERS:]}  {layout.type}  MSE {layout.mse:.3g}")
    if rows:
        shown = ["nearest classes"] if has_classes else []
        captions = ["layout", "reconstruction", *shown, f"error, 0 to {LARGEST_ERROR}"]
        pictures.write_png(path, pictures.grid(rows, captions, TILE, titles))


def error_map(rebuilt: Tensor, image: Tensor) -> Pixels:
    """Return the mean absolute error of each pixel of two images (1, 3, H, W) as RGB bytes (H, W, 3), dark for none."""
    share = ((rebuilt - image).abs().mean(dim=1)[0] / LARGEST_ERROR).clamp(0, 1).cpu().numpy()
    colours: Pixels = matplotlib.colormaps["inferno"](share, bytes=True)[..., :3]
    return np.ascontiguousarray(colours)


def _names(trainer: Trainer) -> list[str]:
    source = trainer.data.source
    return [source.name(index) for index in range(len(source))]


def _first(trainer: Trainer, count: int) -> list[Shown]:
    """Return the first validation layouts that can be read, always the same ones."""
    source, indices = trainer.data.source, trainer.data.split.validation
    samples, unreadable = first_samples(source, indices, count)
    left_out = {layout.index for layout in unreadable}
    readable = [index for index in indices if index not in left_out]
    palette = source.spec.palette
    return [
        Shown(source.name(index), _alone(sample, palette)) for index, sample in zip(readable, samples, strict=False)
    ]


def _alone(sample: Sample, palette: Palette) -> Tensor:
    """Return the pixels of a layout as a batch of one, RGB bytes (1, H, W, 3)."""
    return torch.from_numpy(rgb_of(sample, palette)[None].copy())


def _with_progress(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """Show on a terminal how far a long work has come."""
    console = Console()
    return track(items, what, total=total, console=console, transient=True, disable=not console.is_terminal)
