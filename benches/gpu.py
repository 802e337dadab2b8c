"""What a training step of the default leaves of a GPU, and how fast it encodes and decodes, in under four minutes.

    python benches/gpu.py
    python benches/gpu.py --to gpu.json
    python benches/gpu.py --device cpu --tiny    # whether it runs, on a small scale

The roofline is measured on the same device: a large copy for bytes, a large matrix product for operations. A step's
bytes are what its operations read and write, each for itself. Fused operations move fewer: a compiled step may take
less time than its roofline.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attrs import asdict, frozen
from torch import nn

from imginav import UserError
from imginav.data.batches import layouts_in
from imginav.files import write_text
from imginav.formatting import format_bytes
from imginav.manifest.loading import load
from imginav.manifest.tables import Machine
from imginav.model.autoencoder import parameter_count
from imginav.plugin.registry import installed
from imginav.runs.experiment import build_trainer
from imginav.terminal import print_table
from imginav.training.device import Device, open_device
from imginav.training.trainer import Trainer
from imginav_benches.peers import PEERS, images_of, latents_of
from imginav_benches.step_cost import Roofline, StepCost, best_of, measure_roofline, measure_step
from imginav_benches.subjects import FINAL, Subject

Code = Callable[[torch.Tensor], Any]
"""Encodes images or decodes latents."""

USER_ERROR = 2

WAYS = {
    "eager": ["machine.compile=false"],
    "captured": ["machine.compile=false", "machine.capture=true"],
    "compiled": ["machine.compile=true"],
}
"""How a step is computed, with the settings for it; all but the first on a GPU alone."""


@frozen(kw_only=True)
class Scale:
    """How much is measured."""

    image_size: int
    layouts: int
    batches: tuple[int, ...]  # of a training step
    coded: tuple[int, ...]  # batches that are encoded and decoded
    seconds: float  # of steps, for each row
    matrix: int  # side of the matrices that the roofline is measured with
    peers: tuple[str, ...]


FULL = Scale(image_size=512, layouts=256, batches=(16, 64), coded=(1, 16), seconds=3.0, matrix=8192, peers=tuple(PEERS))
TINY = Scale(image_size=64, layouts=32, batches=(4,), coded=(1,), seconds=0.1, matrix=1024, peers=("AutoencoderTiny",))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status is 2 for what a user can mend."""
    options = _parser().parse_args(arguments)
    try:
        figures = measure(options.device, TINY if options.tiny else FULL, options.ways)
        if options.to:
            write_text(options.to, json.dumps(figures, indent=2) + "\n")
    except UserError as error:
        print(f"gpu: {error}", file=sys.stderr)
        return USER_ERROR
    return 0


def measure(device_name: str, scale: Scale, ways: Sequence[str]) -> dict[str, Any]:
    """Measure all, print the tables, and return the figures."""
    start = time.perf_counter()
    device = open_device(Machine(device=device_name))
    roofline = measure_roofline(device, scale.matrix)
    print(
        f"{device.name}, {device.precision}, torch {torch.__version__}, Python {platform.python_version()}: "
        f"{roofline.bytes_per_second / 1e9:,.0f} GB/s, {roofline.flops_per_second / 1e12:.3g} TFLOP/s"
    )
    steps: list[dict[str, Any]] = []
    for batch in scale.batches:
        eager = None
        for way in ("eager", *(ways if device.works_ahead else ())):
            step, cost = _measure_way(way, batch, device_name, scale, eager)
            eager = eager or cost
            steps.append(step)
            print(f"{way}, batch {batch}: {step['images_per_second']:,.0f} images/s")
    _print_steps(steps, roofline)
    coding = list(_measure_coding(device, scale))
    print_table(
        f"Encoding and decoding, {scale.image_size} px, {device.precision}",
        ["autoencoder", "parameters", "batch", "encode ms", "decode ms", "encode × ours", "decode × ours"],
        [_coding_row(row, coding) for row in coding],
        [False] * len(coding),
    )
    seconds = time.perf_counter() - start
    print(f"measured in {seconds:.0f} s")
    return {
        "device": device.name,
        "precision": device.precision,
        "torch": torch.__version__,
        "roofline": asdict(roofline),
        "steps": steps,
        "coding": coding,
        "seconds": seconds,
    }


def _measure_way(
    way: str, batch: int, device_name: str, scale: Scale, eager: StepCost | None
) -> tuple[dict[str, Any], StepCost]:
    """Train Phase 1.5 in one of the ways, with all that happens in a step of it."""
    settings = [
        *WAYS[way],
        f"machine.device={device_name}",
        f"data.image_size={scale.image_size}",
        f"data.count={max(scale.layouts, 2 * batch)}",
        f"train.batch_size={batch}",
        "train.epochs=1000000",
    ]
    with _trainer(settings) as trainer:
        batches = _endless(trainer)

        def steps(number: int) -> None:
            for _ in range(number):
                terms = trainer.train_step(trainer.device.batch(next(batches)))
                if terms is not None:
                    trainer.hooks.step_finished(trainer, terms)

        cost = measure_step(steps, trainer.device, scale.seconds, eager)
        figures = {
            "way": way,
            "batch": batch,
            "images_per_second": batch / cost.seconds,
            "idle_share": cost.idle_share,
            "notes": trainer.notes,
            "cost": asdict(cost),
        }
        return figures, cost


@contextmanager
def _trainer(settings: Sequence[str]) -> Iterator[Trainer]:
    with tempfile.TemporaryDirectory() as folder:
        # What callbacks write or show is no part of a step.
        quiet = [f"callbacks.{name}=false" for name in ("samples", "metrics_csv", "step_log", "checkpoint", "progress")]
        places = [f"output.experiments={folder}", f"output.shared={folder}", f"machine.cache={folder}/cache"]
        resolved = load(FINAL, installed(), settings=[*places, *quiet, *settings], scale="full", use_site=False)
        trainer = build_trainer(resolved, log=lambda _: None)
        with closing(trainer.data):
            trainer.connect()
            trainer.model.train()
            yield trainer
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _endless(trainer: Trainer) -> Iterator[dict[str, torch.Tensor]]:
    """Return whole batches, epoch after epoch."""
    while True:
        trainer.epoch += 1
        for layouts in trainer.data.train_batches(trainer.epoch):
            if layouts_in(layouts) == trainer.data.batch_size:
                yield layouts


def _print_steps(steps: Sequence[dict[str, Any]], roofline: Roofline) -> None:
    print_table(
        "A training step of Phase 1.5",
        ["step", "batch", "images/s", "ms", "kernels", "their sum ms", "idle", "roofline ms", "of it", "bytes moved"],
        [_step_row(step, StepCost(**step["cost"]), roofline) for step in steps],
        [False] * len(steps),
    )
    for note in {note for step in steps for note in step["notes"]}:
        print(f"note: {note}")


def _step_row(step: dict[str, Any], cost: StepCost, roofline: Roofline) -> list[str]:
    least = cost.roofline_seconds(roofline)
    return [
        step["way"],
        str(step["batch"]),
        f"{step['images_per_second']:,.0f}",
        f"{1e3 * cost.seconds:.3g}",
        "–" if cost.kernels is None else f"{cost.kernels:,}",
        "–" if cost.kernel_seconds is None else f"{1e3 * cost.kernel_seconds:.3g}",
        "–" if cost.idle_share is None else f"{cost.idle_share:.0%}",
        f"{1e3 * least:.3g}",
        f"{least / cost.seconds:.0%}",
        format_bytes(cost.moved_bytes),
    ]


def _measure_coding(device: Device, scale: Scale) -> Iterator[dict[str, Any]]:
    """Encode and decode with ours and with the peers that are installed, random weights in all."""
    resolved = load(FINAL, installed(), scale="full", use_site=False)
    ours = Subject(name="imginav", manifest=resolved.manifest).build(device, rgb_only=True)
    yield from _coded("imginav", ours, ours.encode, ours.decode, device, scale)
    if importlib.util.find_spec("diffusers") is None:
        print("no diffusers here, so no peers: pip install -c constraints.txt '.[benches]'")
        return
    diffusers = importlib.import_module("diffusers")
    for name in scale.peers:
        peer = getattr(diffusers, name)(**PEERS[name]).eval()
        device.place(peer)
        yield from _coded(name, peer, partial(latents_of, peer), partial(images_of, peer), device, scale)


@torch.no_grad()
def _coded(
    name: str, model: nn.Module, encode: Code, decode: Code, device: Device, scale: Scale
) -> Iterator[dict[str, Any]]:
    for batch in scale.coded:
        images = torch.rand(batch, 3, scale.image_size, scale.image_size, device=device.device).mul(2).sub(1)
        images = images.contiguous(memory_format=device.memory_format)
        with device.autocast():
            latents = encode(images)
            times = {
                "encode_seconds": best_of(partial(encode, images), device),
                "decode_seconds": best_of(partial(decode, latents), device),
            }
        yield {"name": name, "parameters": parameter_count(model), "batch": batch, **times}


def _coding_row(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    ours = next(other for other in rows if other["batch"] == row["batch"])
    return [
        row["name"],
        f"{row['parameters']:,}",
        str(row["batch"]),
        *(f"{1e3 * row[f'{what}_seconds']:.3g}" for what in ("encode", "decode")),
        *(f"{row[f'{what}_seconds'] / ours[f'{what}_seconds']:.3g}" for what in ("encode", "decode")),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--tiny", action="store_true", help="small images and few steps: to see whether it runs")
    parser.add_argument(
        "--ways", nargs="*", choices=list(WAYS)[1:], default=["captured"], help="beside eager steps (default: captured)"
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="write the figures there as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
