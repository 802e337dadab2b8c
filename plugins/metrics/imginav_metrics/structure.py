"""Similarity of structure: SSIM and MS-SSIM.

torchmetrics has both, and is not taken, because layouts are mostly flat: in fp32, two equal pictures of nothing but
background have an SSIM of 0.998 there (rounding errors of variances are kept from falling below zero, those of the
covariance are not). In fp64 it is right, and takes twenty times as long as this. The tests compare with scikit-image
and torchmetrics.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from imginav import CannotMeasure, DataSpec, Measurement, Metric

WINDOW = 11
"""Side of the Gaussian window, in pixels."""

SIGMA = 1.5
"""Its standard deviation, in pixels."""

C1, C2 = 0.01**2, 0.03**2
"""What keeps quotients finite, for pixels in [0, 1] (Wang et al., 2004)."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, the finest first (Wang, Simoncelli & Bovik, 2003)."""

SMALLEST_FOR_MS_SSIM = WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)
"""In pixels; of a smaller layout, the coarsest scale is smaller than the window."""


@frozen(kw_only=True)
class Structure(Metric):
    """SSIM and MS-SSIM of the reconstructions."""

    @property
    def definitions(self) -> Mapping[str, str]:
        how = (
            f"Gaussian window of {WINDOW} px with standard deviation {SIGMA} where it fits into the layout, red, green "
            "and blue apart in [0, 1], the mean over positions, colours and layouts; at most 1, for equal images"
        )
        return {
            "ssim": f"structural similarity (Wang et al., 2004), none for layouts below {WINDOW} px; {how}",
            "ms_ssim": f"structural similarity over {len(SCALE_WEIGHTS)} scales (Wang, Simoncelli & Bovik, 2003), 0 "
            f"where structures are opposed, none for layouts below {SMALLEST_FOR_MS_SSIM} px; {how}",
        }

    @property
    def more_is_better(self) -> Collection[str]:
        return ("ssim", "ms_ssim")

    def build(self, spec: DataSpec, outputs: Collection[str], image_size: int) -> Measurement:
        if "rgb" not in outputs:
            raise CannotMeasure("the autoencoder has no output rgb")
        return StructureRows()


class StructureRows(Measurement):
    """Keeps SSIM and MS-SSIM of each layout."""

    def rows(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        # One by one: a batch of moments would take a gigabyte.
        pairs = [(one[None], other[None]) for one, other in zip(outputs["rgb"], batch["rgb"], strict=True)]
        ssim, ms_ssim = zip(*(similarities(one, other) for one, other in pairs), strict=True)
        return {"ssim": torch.stack(ssim), "ms_ssim": torch.stack(ms_ssim)}

    def figures(self, rows: Mapping[str, Tensor]) -> Mapping[str, float]:
        return {name: float(values.double().mean()) for name, values in rows.items()}


def similarities(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return SSIM and MS-SSIM of two images (1, C, H, W) in [-1, 1], as scalars.

    Values are clamped to that range and brought to [0, 1]: SSIM compares means by their ratio and is not the same with
    another zero. Each is NaN for images that are too small for its window.
    """
    nothing = one.new_tensor(torch.nan)
    if min(one.shape[-2:]) < WINDOW:
        return nothing, nothing
    one, other = ((image.float().clamp(-1, 1) + 1) / 2 for image in (one, other))
    ssim, contrast = _ssim_and_contrast(one, other)
    if min(one.shape[-2:]) < SMALLEST_FOR_MS_SSIM:
        return ssim, nothing
    # As the means over positions are multiplied, a negative one has no power: structures are opposed, which is 0.
    product = contrast.clamp(min=0) ** SCALE_WEIGHTS[0]
    coarse = ssim
    for scale, weight in enumerate(SCALE_WEIGHTS[1:], start=2):
        one, other = F.avg_pool2d(one, 2), F.avg_pool2d(other, 2)
        coarse, contrast = _ssim_and_contrast(one, other)
        last = scale == len(SCALE_WEIGHTS)
        product = product * (coarse if last else contrast).clamp(min=0) ** weight
    return ssim, product


def _ssim_and_contrast(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of SSIM and of its second factor, contrast and structure, of two images in [0, 1]."""
    moments = _blurred(torch.cat([one, other, one * one, other * other, one * other], dim=1))
    mean, other_mean, square, other_square, both = moments.chunk(5, dim=1)
    means = mean * other_mean
    squares = mean.square() + other_mean.square()
    contrast = (2 * (both - means) + C2) / (square + other_square - squares + C2)
    ssim = contrast * (2 * means + C1) / (squares + C1)
    return ssim.mean(), contrast.mean()


def _blurred(planes: Tensor) -> Tensor:
    """Return the weighted means (1, C, H - 10, W - 10) of planes (1, C, H, W) within the window, rows, then columns.

    Channels that lie together in memory are several times faster on a CPU.
    """
    offsets = torch.arange(WINDOW, device=planes.device) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    channels = planes.shape[1]
    kernel = (weights / weights.sum()).repeat(channels, 1, 1, 1)
    planes = planes.contiguous(memory_format=torch.channels_last)
    return F.conv2d(F.conv2d(planes, kernel, groups=channels), kernel.transpose(2, 3), groups=channels)
