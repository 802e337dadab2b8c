"""What an experiment will need, before any of it is spent."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import torch
from attrs import asdict, frozen

from imginav.data.batches import layouts_in
from imginav.data.loader import steps_per_epoch
from imginav.formatting import format_bytes, format_duration
from imginav.manifest.config_layers import value_at
from imginav.manifest.fingerprints import DataFingerprint
from imginav.manifest.resolved import ResolvedManifest
from imginav.model.autoencoder import check_sizes, parameter_count
from imginav.plugin.data_spec import DataSpec
from imginav.runs.experiment import build_trainer
from imginav.study.phases import OpenPhase
from imginav.terminal import print_table
from imginav.training.assembly import build_model
from imginav.training.device import open_device
from imginav.training.validation import validate
from imginav_evaluation.cost import META, size_of
from imginav_inspect.explanation import value_lines
from imginav_inspect.json_output import print_json
from imginav_reports.varied_values import short_names, shown_value

BYTES_PER_WEIGHT = 4

BYTES_PER_TENSOR = 1024
"""What a checkpoint holds beside the values of a tensor, at most: its name, its place, its optimizer's step."""

TRAINING_COPIES = 3
"""What a checkpoint that a run can go on from holds, in weights, beside what callbacks keep: them, two moments."""

MEMORY_COPIES = 4
"""What is held beside activations and what callbacks keep, in weights: them, their gradients, two moments."""

MEASURED_SECONDS = 10.0
"""For how long training steps are timed, or for `MOST_STEPS`."""

MOST_STEPS = 20

VALIDATION_BATCHES = 2
"""Over which validation is timed."""


@frozen(kw_only=True)
class Needs:
    """What one experiment will need; memory and disk are estimates."""

    experiment: ResolvedManifest
    latent: tuple[int, int, int]  # height, width, channels of a whole layout
    encoder_parameters: int
    decoder_parameters: int
    encode_flops: int  # for one whole layout, a multiplication and an addition counted as two
    decode_flops: int
    activation_bytes: int  # kept for the gradients of a batch, or of a part of it with machine.accumulate
    weights_bytes: int  # weights, gradients, the optimizer's moments, and the copies that callbacks keep
    disk_bytes: int  # what a run leaves, at most
    steps_per_epoch: int
    seconds: float | None  # of the whole training, from a few measured steps; none: not measured
    probe_seconds: float | None = None  # of its probes, embedding aside; None: it has none, or they were not measured

    @property
    def cells(self) -> list[str]:
        """What a person compares, as `HEADINGS` names it."""
        return [
            "×".join(map(str, self.latent)),
            f"{math.prod(self.latent):,}",
            f"{self.encoder_parameters:,} + {self.decoder_parameters:,}",
            f"{self.encode_flops / 1e9:.1f} + {self.decode_flops / 1e9:.1f}",
            f"{format_bytes(self.activation_bytes)} + {format_bytes(self.weights_bytes)}",
            format_bytes(self.disk_bytes),
            f"{self.experiment.manifest.train.epochs} × {self.steps_per_epoch}",
            "" if self.seconds is None else format_duration(self.seconds),
            "" if self.probe_seconds is None else format_duration(self.probe_seconds),
        ]

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        own = asdict(self, filter=lambda attribute, _: attribute.name != "experiment")
        manifest = self.experiment.manifest
        run = {"run": manifest.phase.experiment, "changes": self.experiment.changes, "epochs": manifest.train.epochs}
        return {"experiment": self.experiment.name, **run, **own}


HEADINGS = (
    "latent",
    "dimensions",
    "parameters (encoder + decoder)",
    "GFLOPs a layout (encode + decode)",
    "memory (activations + weights)",
    "disk",
    "epochs × steps",
    "time",
    "probes",
)


def needs_of(resolved: ResolvedManifest, spec: DataSpec, data: DataFingerprint, *, measure: bool) -> Needs:
    """Work out what an experiment will need; raises UserError where it cannot be built.

    Nothing is computed but shapes, unless `measure` takes a few training steps to time them.
    """
    manifest = resolved.manifest
    check_sizes(manifest.data, manifest.encoder)
    size = size_of(manifest, spec)
    with torch.device(META):
        model = build_model(manifest, spec)
    side = manifest.data.image_size // manifest.encoder.downsampling_factor
    encoder, decoder = parameter_count(model.encoder), parameter_count(model.decoder)
    weights = BYTES_PER_WEIGHT * (encoder + decoder)
    steps = steps_per_epoch(data.split.train, manifest.data, manifest.train)
    kept = sum(callback.weight_copies for callback in manifest.callbacks.values())
    stored = weights + BYTES_PER_TENSOR * len(list(model.parameters()))
    training = (TRAINING_COPIES + kept) * stored
    disk = sum(c.disk_bytes(stored, training, manifest.train.epochs) for c in manifest.callbacks.values())
    return Needs(
        experiment=resolved,
        latent=(side, side, manifest.encoder.latent_channels),
        encoder_parameters=encoder,
        decoder_parameters=decoder,
        encode_flops=size.encode_flops,
        decode_flops=size.decode_flops,
        activation_bytes=size.training_bytes * math.ceil(manifest.train.batch_size / manifest.machine.accumulate),
        weights_bytes=(MEMORY_COPIES + kept) * weights,
        disk_bytes=disk,
        steps_per_epoch=steps,
        seconds=_measured_seconds(resolved) if measure else None,
        probe_seconds=_probe_seconds(resolved) if measure else None,
    )


def show_plan(
    opened: OpenPhase, experiments: Sequence[ResolvedManifest], *, measure: bool, as_json: bool = False
) -> None:
    """Print the values of some experiments of a phase with their origins, and what they will need."""
    phase = opened.phase
    varied = phase.varied if len(experiments) > 1 else ()
    values = _shared_values(experiments, varied)
    if not as_json:
        print("\n".join(value_lines(values)))
    source = experiments[0].manifest.data.open()
    spec, noted = source.spec, source.check_pixels()
    fingerprints = dict(zip(map(phase.label, phase.experiments), opened.fingerprints, strict=True))
    needs = [needs_of(e, spec, fingerprints[phase.label(e)], measure=measure) for e in experiments]
    if as_json:
        origins = {key: {"value": value, "origin": origin} for key, value, origin in values}
        print_json({"phase": phase.id, "experiments": [n.as_json() for n in needs], "values": origins})
        return
    headings = HEADINGS if any(n.probe_seconds is not None for n in needs) else HEADINGS[:-1]
    rows = [
        [phase.label(n.experiment), *(shown_value(n.experiment.changes, k) for k in varied), *n.cells[: len(headings)]]
        for n in needs
    ]
    print_table(phase.heading, ["experiment", *short_names(varied), *headings], rows, [False] * len(rows))
    times = [n.seconds + (n.probe_seconds or 0.0) for n in needs if n.seconds is not None]
    print(
        f"in all {format_bytes(sum(n.disk_bytes for n in needs))} of disk"
        + (f" and {format_duration(sum(times))}, one after the other" if times else "; --measure estimates the time")
        + "; memory and disk are estimates"
    )
    if noted:
        print(f"note: {noted}")


def _shared_values(experiments: Sequence[ResolvedManifest], varied: Sequence[str]) -> list[tuple[str, Any, str]]:
    """Return the values that all experiments share with their origins, by dotted key."""
    first = experiments[0]
    rows = []
    for key, origin in first.origins.items():
        own = any(key == other or key.startswith(f"{other}.") for other in varied)
        if not own and not (key == "phase.experiment" and len(experiments) > 1):
            rows.append((key, value_at(first.tables, key.split(".")), origin))
    return rows


def _probe_seconds(resolved: ResolvedManifest) -> float | None:
    """Return how long the probes of an experiment take, as far as they can tell."""
    manifest = resolved.manifest
    window = manifest.data.window
    device = open_device(manifest.machine)
    side = window // manifest.encoder.downsampling_factor
    times = [
        probe.seconds(window, (manifest.encoder.latent_channels, side, side), device)
        for probe in manifest.evaluation.probes.values()
    ]
    return sum(time for time in times if time is not None) if times else None


def _measured_seconds(resolved: ResolvedManifest) -> float:
    """Take a few training steps and validate one batch, and return how long the whole training would take."""
    trainer = build_trainer(resolved, log=lambda _: None, prepared=False)
    with closing(trainer.data):
        trainer.model.train()
        times = []
        batches = trainer.data.train_batches(1)
        for sample_bytes in filter(None, batches):  # a batch of which nothing can be read is empty
            start = time.perf_counter()
            trainer.train_step(trainer.device.batch(sample_bytes))
            trainer.device.wait()
            times.append(time.perf_counter() - start)
            # The first step pays for setting up, and says nothing of those to come.
            if sum(times[1:]) > MEASURED_SECONDS or len(times) > MOST_STEPS:
                break
        samples = list(itertools.islice(trainer.data.validation_batches(), VALIDATION_BATCHES))
        start = time.perf_counter()
        validate(trainer.model, trainer.objective, samples, trainer.device)
        layout = (time.perf_counter() - start) / sum(map(layouts_in, samples))
        validation = layout * len(trainer.data.split.validation)
        step = sum(times[1:] or times) / len(times[1:] or times)
        return float(resolved.manifest.train.epochs * (trainer.data.steps_per_epoch * step + validation))
