"""Pixel values: bytes on disk and in loading, floats in [-1, 1] in networks, and the PSNR between two images."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PEAK_TO_PEAK = 2.0
"""The span of a pixel value, from -1 to 1."""


def to_floats(pixels: Tensor) -> Tensor:
    """Return bytes of any shape as fp32 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1.0)


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Return images (N, 3, H, W) in [-1, 1] as RGB bytes (N, H, W, 3), rounded to the nearest."""
    scaled = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def psnr_db(mse: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error between pixels in [-1, 1]."""
    return math.inf if mse == 0 else 10 * math.log10(PEAK_TO_PEAK**2 / mse)
