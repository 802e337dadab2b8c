"""The metrics of an epoch: what its name stands for, and how it is measured over whole layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from imginav.errors import UserError
from imginav.model.autoencoder import Autoencoder
from imginav.pixels import psnr_db
from imginav.plugin.palette import UNMATCHED
from imginav.training.device import Device
from imginav.training.objective import Objective

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
    means = _means(device.world.all_gather((layouts, {name: float(total) for name, total in sums.items()})))
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
