"""What the weights that a run leaves are worth: figures, and pictures of the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from attrs import evolve, frozen
from torch import Tensor

from imginav.data.batches import rgb_of
from imginav.data.loader import Data, first_samples
from imginav.manifest.resolved import ResolvedManifest
from imginav.model.autoencoder import Autoencoder, parameter_count
from imginav.pixels import to_bytes
from imginav.plugin.checkpoint import sha256_of
from imginav.plugin.components import Sample
from imginav.plugin.palette import Palette
from imginav.runs.evaluation_result import EvaluationResult, Interpolation, Latent, Pair, RankedLayout, network_sha256
from imginav.runs.records import code_version, utc_now
from imginav.terminal import show_progress
from imginav.training.device import Device
from imginav.training.objective import Objective
from imginav.training.trainer import Trainer
from imginav.training.validation import validate
from imginav_evaluation import pictures
from imginav_evaluation.cost import size_of
from imginav_evaluation.error_maps import LARGEST_ERROR, error_map
from imginav_evaluation.latency import latency_of
from imginav_evaluation.latent_statistics import (
    Coder,
    decoded_path,
    latent_statistics,
    path_length_ratio,
    spherical,
    straight,
    with_decoding,
)
from imginav_evaluation.pictures import Pixels
from imginav_evaluation.reconstruction import Reconstructions

T = TypeVar("T")

TILE = 160
"""Side of a layout in the pictures, in pixels."""

NAME_CHARACTERS = 60
"""Of a layout's name above its pictures, the last ones: of a path, the file."""


INTERPOLATION, WORST, BEST = "interpolation.png", "worst.png", "best.png"
LAYOUTS = "evaluation_layouts.csv"


@frozen
class Shown:
    """A validation layout as a sample of bytes (1, H, W, 3), with its name."""

    name: str
    pixels: Tensor


@frozen(kw_only=True)
class Weights:
    """Weights to evaluate: a model that holds them, with its losses, data and device, and how they came about."""

    model: Autoencoder
    objective: Objective
    data: Data
    device: Device
    weights_epoch: int  # that they are of
    epoch: int  # the last that was trained
    stop_reason: str = ""
    best_epoch: int | None = None
    notes: tuple[str, ...] = ()
    unless_stopped: Callable[[Iterable[Any]], Iterable[Any]] = iter  # may raise Interrupted between two items

    @classmethod
    def of(cls, trainer: Trainer) -> Weights:
        """Return the weights that a trainer holds; evaluating them stops where the trainer is asked to."""
        return cls(
            model=trainer.model,
            objective=trainer.objective,
            data=trainer.data,
            device=trainer.device,
            weights_epoch=trainer.weights_epoch,
            epoch=trainer.epoch,
            stop_reason=trainer.stop_reason,
            best_epoch=trainer.best.epoch,
            notes=tuple(trainer.notes),
            unless_stopped=trainer.unless_stopped,
        )


def evaluate(weights: Weights, resolved: ResolvedManifest, folder: Path, *, timed: bool) -> EvaluationResult:
    """Measure weights over all validation layouts, and draw pictures into a folder.

    Without `timed` no times are taken: beside other work they would mean nothing. Raises Interrupted between two
    batches where the run is asked to stop, and UserError where a metric is told what cannot be.
    """
    manifest, data = resolved.manifest, weights.data
    names = [data.source.name(index) for index in range(len(data.source))]
    metrics, seen, indices = _rebuild(weights, resolved)
    ranked = [names[index] for index in indices]
    has_rgb = "rgb" in weights.model.output_names
    reconstruction = seen.summary(ranked, manifest.evaluation.extremes)
    seen.write_csv(folder / LAYOUTS, ranked)
    if has_rgb:
        _draw_ranked(folder / WORST, reconstruction.worst, weights, names)
        _draw_ranked(folder / BEST, reconstruction.best, weights, names)
    side = data.image_size // manifest.encoder.downsampling_factor
    phase = manifest.phase
    return EvaluationResult(
        title=phase.heading if resolved.name == phase.experiment else f"{phase.heading} · {resolved.name}",
        experiment=phase.experiment,
        weights_epoch=weights.weights_epoch,
        epochs=weights.epoch,
        stop_reason=weights.stop_reason or ("all epochs done" if weights.epoch == manifest.train.epochs else ""),
        best_epoch=weights.best_epoch,
        monitor=manifest.train.monitor,
        metrics=metrics,
        flat_background_mse=seen.flat_background_mse,
        latent=(side, side, manifest.encoder.latent_channels),
        downsampling_factor=manifest.encoder.downsampling_factor,
        encoder_parameters=parameter_count(weights.model.encoder),
        decoder_parameters=parameter_count(weights.model.decoder),
        train_layouts=len(data.split.train),
        validation_layouts=len(data.split.validation),
        split_by=data.split.by,
        trial=resolved.trial,
        notes=(*weights.notes, *data.left_out),
        data=data.source.describe(),
        evaluated=utc_now(),
        code_version=code_version(),
        weights_sha256=sha256_of(weights.model.state_dict()),
        network_sha256=network_sha256(resolved.tables),
        reconstruction=reconstruction,
        latent_statistics=_latent(weights, resolved),
        interpolation=_interpolate(folder / INTERPOLATION, weights, resolved) if has_rgb else None,
        size=size_of(manifest, data.source.spec),
        latency=latency_of(weights.model, data.image_size, weights.device) if timed else None,
    )


def _rebuild(weights: Weights, resolved: ResolvedManifest) -> tuple[dict[str, float], Reconstructions, list[int]]:
    """Return the metrics of all validation layouts, what is known of each, and their indices in that order."""
    data, model = weights.data, weights.model
    metrics = resolved.manifest.evaluation.metrics
    seen = Reconstructions(metrics, data.source.spec, model.output_names, data.image_size, weights.device)
    indices: list[int] = []

    def batches() -> Iterator[dict[str, Tensor]]:
        for loaded in weights.unless_stopped(data.whole_batches(data.split.validation)):
            yield loaded.layouts
            indices.extend(loaded.indices)

    total = len(data.split.validation)
    shown = show_progress(batches(), "evaluating reconstructions", -(-total // data.whole_batch_size))
    measured = validate(model, weights.objective, shown, weights.device, seen.see)
    return {**seen.figures(), **measured}, seen, indices


def _latent(weights: Weights, resolved: ResolvedManifest) -> Latent:
    """Return the statistics of the latent over training layouts, and what decoding makes of it."""
    settings, data = resolved.manifest.evaluation, weights.data
    indices = data.split.train[: settings.latent_layouts]
    batches = (loaded.layouts for loaded in weights.unless_stopped(data.whole_batches(indices)))
    total = -(-len(indices) // data.whole_batch_size)
    latent = latent_statistics(weights.model, show_progress(batches, "encoding layouts", total), weights.device)
    latent = evolve(latent, whole_split=len(indices) == len(data.split.train))
    if "rgb" not in weights.model.output_names:
        return latent
    layouts = _first(weights, settings.sampled_layouts)
    shown = show_progress(weights.unless_stopped(layouts), "adding noise to latents", len(layouts))
    pixels = (layout.pixels for layout in shown)
    return with_decoding(latent, weights.model, pixels, settings.noise, weights.device)


@torch.no_grad()
def _interpolate(path: Path, weights: Weights, resolved: ResolvedManifest) -> Interpolation:
    """Draw what lies between pairs of validation layouts, and return how smoothly it changes."""
    settings = resolved.manifest.evaluation
    layouts = _first(weights, 2 * settings.pairs)
    if len(layouts) == 1:  # the way runs from it to itself
        layouts *= 2
    coder = Coder(weights.model, weights.device)
    weights.model.eval()
    rows: list[list[Pixels]] = []
    titles, pairs = [], []
    for first, second in zip(layouts[::2], layouts[1::2], strict=False):
        start, end = (coder.encode(weights.device.images({"rgb": layout.pixels})) for layout in (first, second))
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
def _draw_ranked(path: Path, ranked: Sequence[RankedLayout], weights: Weights, names: Sequence[str]) -> None:
    """Draw layouts with their reconstructions, the nearest classes of these where there are any, and the errors."""
    spec = weights.data.source.spec
    has_classes = "segmentation" in spec.targets
    coder = Coder(weights.model, weights.device)
    weights.model.eval()
    place = {name: index for index, name in enumerate(names)}
    rows, titles = [], []
    for layout in ranked:
        original = _alone(weights.data.source.read(place[layout.name]), spec.palette)
        image = weights.device.images({"rgb": original})
        rebuilt = coder.decode(coder.encode(image))
        pixels = to_bytes(rebuilt)[0]
        classes = [spec.palette.colour(spec.palette.nearest(pixels))] if has_classes else []
        rows.append([original[0].numpy(), pixels, *classes, error_map(rebuilt, image)])
        titles.append(f"{layout.name[-NAME_CHARACTERS:]}  {layout.type}  MSE {layout.mse:.3g}")
    if rows:
        shown = ["nearest classes"] if has_classes else []
        captions = ["layout", "reconstruction", *shown, f"error, 0 to {LARGEST_ERROR}"]
        pictures.write_png(path, pictures.grid(rows, captions, TILE, titles))


def _first(weights: Weights, count: int) -> list[Shown]:
    """Return the first validation layouts that can be read, always the same ones."""
    source, indices = weights.data.source, weights.data.split.validation
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
