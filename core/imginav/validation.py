"""The metrics of an epoch: what its name stands for, and how it is measured over whole layouts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from imginav.autoencoder import Autoencoder
from imginav.device import Device
from imginav.errors import UserError
from imginav.objective import TOTAL, Objective, loss_columns
from imginav.palette import UNMATCHED

PEAK_TO_PEAK = 2.0
"""The span of a pixel value, from -1 to 1."""

DEFINITIONS = {
    "val_mse": "mean squared error over all pixels of all whole validation layouts, in [-1, 1]",
    "val_psnr_db": "PSNR in dB of the mean squared error over all pixels of all whole validation layouts",
    "val_unmatched_share": "share of the pixels of all whole validation layouts that match no class",
}
"""What those metrics stand for that are the same in every manifest; a change of one changes its text."""

See = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], None]
"""Takes the outputs of a batch in fp32, and the batch."""


@torch.no_grad()
def validate(
    model: Autoencoder,
    objective: Objective,
    batches: Iterable[dict[str, Tensor]],
    device: Device,
    see: See = lambda outputs, batch: None,
) -> dict[str, float]:
    """Return the metrics over whole layouts, by the names that `metric_columns` lists; `see` sees each batch as well.

    `val_mse` is the mean over all elements of all layouts, in the [-1, 1] scale of pixels; `val_psnr_db` is taken
    of that mean, so that a perfectly rebuilt blank layout does not spoil it. A loss is averaged over layouts. Where
    several processes have a share of the layouts each, all of them get the metrics of all layouts.
    """
    model.eval()
    sums: dict[str, Tensor] = {}
    layouts = 0
    for sample_bytes in batches:
        batch = device.batch(sample_bytes)
        size = len(batch["rgb"])
        with device.autocast():
            outputs = {name: output.float() for name, output in model(batch["rgb"]).items()}
        measured = objective(outputs, batch)
        if "rgb" in outputs:
            measured["/mse"] = torch.mean((outputs["rgb"] - batch["rgb"]).square())
        if "segmentation" in batch:
            measured["/unmatched_share"] = (batch["segmentation"] == UNMATCHED).double().mean()
        sums = {name: sums.get(name, 0.0) + value.double() * size for name, value in measured.items()}
        layouts += size
        see(outputs, batch)
    means = _means(device.world.gather((layouts, {name: float(total) for name, total in sums.items()})))
    metrics = objective.columns(means, "val")
    if "/mse" in means:
        metrics |= {"val_mse": means["/mse"], "val_psnr_db": psnr_db(means["/mse"])}
    if "/unmatched_share" in means:
        metrics["val_unmatched_share"] = means["/unmatched_share"]
    return metrics


def _means(shares: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Return the means over all layouts, from the number of layouts in each share, and its sums by name."""
    layouts = sum(number for number, _ in shares)
    if not layouts:
        raise UserError("none of the validation layouts can be read any more; see the lines above")
    names = dict.fromkeys(name for _, sums in shares for name in sums)
    return {name: sum(sums.get(name, 0.0) for _, sums in shares) / layouts for name in names}


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
