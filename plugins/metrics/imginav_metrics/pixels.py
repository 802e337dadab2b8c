"""Errors of pixels."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from attrs import frozen
from torch import Tensor

from imginav import CannotMeasure, DataSpec, Measurement, Metric

PEAK_TO_PEAK = 2.0
"""The span of a pixel value, from -1 to 1."""


@frozen(kw_only=True)
class PixelErrors(Metric):
    """MSE, L1 and PSNR of the reconstructions."""

    @property
    def definitions(self) -> Mapping[str, str]:
        return {
            "mse": "mean squared error over all pixels, in [-1, 1]",
            "l1": "mean absolute error over all pixels, in [-1, 1]",
            "psnr_db": "PSNR in dB of the mean squared error over all pixels",
            "psnr_mean_db": (
                "mean over the layouts of the PSNR of each, in dB; layouts that are rebuilt without any error have "
                "none and are left out"
            ),
        }

    @property
    def more_is_better(self) -> Collection[str]:
        return ("psnr_db", "psnr_mean_db")

    def build(self, spec: DataSpec, outputs: Collection[str], image_size: int) -> Measurement:
        if "rgb" not in outputs:
            raise CannotMeasure("the autoencoder has no output rgb")
        return PixelErrorRows()


class PixelErrorRows(Measurement):
    """Keeps the squared and the absolute error of each layout."""

    def rows(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        error = outputs["rgb"] - batch["rgb"]
        return {
            "mse": error.square().flatten(1).mean(dim=1, dtype=torch.float64),
            "l1": error.abs().flatten(1).mean(dim=1, dtype=torch.float64),
        }

    def figures(self, rows: Mapping[str, Tensor]) -> Mapping[str, float]:
        mse = float(rows["mse"].mean())
        finite = _psnr_db(rows["mse"][rows["mse"] > 0])
        return {
            "mse": mse,
            "l1": float(rows["l1"].mean()),
            "psnr_db": float(_psnr_db(torch.tensor(mse, dtype=torch.float64))),
            "psnr_mean_db": float(finite.mean()) if len(finite) else math.inf,
        }


def _psnr_db(mse: Tensor) -> Tensor:
    return 10 * torch.log10(PEAK_TO_PEAK**2 / mse)
