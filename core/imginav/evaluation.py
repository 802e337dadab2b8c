"""What an autoencoder is worth: the metrics of its reconstructions."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from imginav.autoencoder import Autoencoder
from imginav.device import Device
from imginav.objective import TOTAL, Objective, loss_columns
from imginav.palette import UNMATCHED, Palette

PEAK_TO_PEAK = 2.0
"""The span of a pixel value, from -1 to 1."""

DEFINITIONS = {
    "val_mse": "mean squared error over all pixels of all whole validation layouts, in [-1, 1]",
    "val_psnr_db": "PSNR in dB of the mean squared error over all pixels of all whole validation layouts",
    "val_unmatched_share": "share of the pixels of all whole validation layouts that match no class",
}
"""What those metrics stand for that are the same in every manifest; a change of one changes its text."""

TIMED_PASSES = 5
"""Layouts that are encoded and decoded to time it."""


@torch.no_grad()
def validate(
    model: Autoencoder, objective: Objective, batches: Iterable[dict[str, Tensor]], device: Device
) -> dict[str, float]:
    """Return the metrics over whole layouts, by the names that `metric_columns` lists.

    `val_mse` is the mean over all elements of all layouts, in the [-1, 1] scale of pixels; `val_psnr_db` is taken
    of that mean, so that a perfectly rebuilt blank layout does not spoil it. A loss is averaged over layouts.
    """
    model.eval()
    sums: dict[str, Tensor] = {}
    layouts = 0
    for sample_bytes in batches:
        batch = device.batch(sample_bytes)
        size = len(batch["rgb"])
        with device.autocast():
            outputs = model(batch["rgb"])
        measured = objective(outputs, batch)
        if "rgb" in outputs:
            measured["/mse"] = torch.mean((outputs["rgb"].float() - batch["rgb"]).square())
        if "segmentation" in batch:
            measured["/unmatched_share"] = (batch["segmentation"] == UNMATCHED).double().mean()
        sums = {name: sums.get(name, 0.0) + value.double() * size for name, value in measured.items()}
        layouts += size
    means = {name: float(total) / layouts for name, total in sums.items()}
    metrics = objective.columns(means, "val")
    if "/mse" in means:
        metrics |= {"val_mse": means["/mse"], "val_psnr_db": psnr_db(means["/mse"])}
    if "/unmatched_share" in means:
        metrics["val_unmatched_share"] = means["/unmatched_share"]
    return metrics


def metric_columns(weights: Mapping[str, float], outputs: Collection[str]) -> list[str]:
    """Return the names of the metrics of an epoch, which `train.monitor` can choose from.

    They follow from the names of the losses, here with their weights, and of the model's outputs.
    """
    terms = dict.fromkeys([*weights, TOTAL], 0.0)
    columns = [*loss_columns(weights, terms, "val"), *loss_columns(weights, terms, "train")]
    return [*(["val_mse", "val_psnr_db"] if "rgb" in outputs else []), *columns]


def metric_definition(metric: str, losses: Mapping[str, Any]) -> str:
    """Return what a metric's name stands for, given the [losses] of a manifest; empty where it has no such metric.

    Figures under one name can be compared where the definitions are the same.
    """
    if metric in DEFINITIONS:
        return DEFINITIONS[metric]
    part, _, term = metric.partition("_loss")
    layouts = {"val": "whole validation layouts", "train": "the training of an epoch"}.get(part, "")
    name = term.removeprefix("_").removesuffix("_weighted")
    if not layouts or (name and name not in losses):
        return ""
    if not name:
        terms = {loss: table for loss, table in losses.items() if table.get("weight") != 0}
        return f"weighted sum over {layouts} of {json.dumps(terms, sort_keys=True)}"
    table = dict(losses[name])
    if not term.endswith("_weighted"):
        table.pop("weight", None)
    return f"mean over {layouts} of {json.dumps(table, sort_keys=True)}"


def psnr_db(mse: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error between pixels in [-1, 1]."""
    return math.inf if mse == 0 else 10 * math.log10(PEAK_TO_PEAK**2 / mse)


def flat_background_mse(batches: Iterable[dict[str, Tensor]], palette: Palette, device: Device) -> float:
    """Return the MSE of reconstructions that show nothing but background: what any autoencoder must beat."""
    colour = torch.tensor(palette.background_colour, device=device.device).view(1, 3, 1, 1) / 127.5 - 1
    errors = [(device.batch(sample_bytes)["rgb"] - colour).square().mean(dim=(1, 2, 3)) for sample_bytes in batches]
    return float(torch.cat(errors).double().mean())


@torch.no_grad()
def latency_ms(model: Autoencoder, image_size: int, device: Device) -> float:
    """Return the median time in which one layout is encoded and decoded, in milliseconds."""
    model.eval()
    image = torch.zeros(1, 3, image_size, image_size, device=device.device).contiguous(
        memory_format=device.memory_format
    )
    times = []
    for _ in range(1 + TIMED_PASSES):
        device.wait()
        start = time.perf_counter()
        with device.autocast():
            model.decode(model.encode(image))
        device.wait()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[1:])  # the first one pays for setting up


@torch.no_grad()
def interpolate(model: Autoencoder, images: Tensor, steps: int, device: Device) -> Tensor:
    """Return `steps` images on the straight line between the latents of two images (2, 3, H, W), ends included."""
    model.eval()
    with device.autocast():
        start, end = model.encode(images).float()
        shares = torch.linspace(0, 1, steps, device=start.device).view(-1, 1, 1, 1)
        # One at a time: whole layouts of many steps would take the memory of a large batch.
        decoded = [model.decode((start + share * (end - start))[None])["rgb"] for share in shares]
    return torch.cat(decoded).float()
