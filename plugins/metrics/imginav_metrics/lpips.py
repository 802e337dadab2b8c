"""LPIPS: the distance of images as people see it, in the features of VGG16."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor, nn

from imginav import CannotMeasure, DataSpec, Measurement, Metric, UserError
from imginav.plugin import from_to
from imginav_losses.vgg16 import LAYERS, VGG16Features

HEADS_FILE = Path("functional") / "image" / "lpips_models" / "vgg.pth"
"""The trained weights of the channels, within the package torchmetrics, which copies them from the authors'."""

SMALLEST_SQUARED_LENGTH = 1e-8
"""Added to that of a position's features, so that one without any can be divided by it; torchmetrics' value."""


@frozen(kw_only=True)
class Lpips(Metric):
    """LPIPS of the reconstructions, where the weights of VGG16 are at hand; nothing is ever downloaded.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018; version 0.1.
    """

    weights: Path | None = field(default=None)  # VGG16's, a file in torchvision's layout; none: torch.hub's cache
    side: int | None = field(
        default=256, validator=from_to(16, 4096)
    )  # larger layouts are shrunk to it, in pixels; none: they are not, which takes seconds each on a CPU

    @property
    def definitions(self) -> Mapping[str, str]:
        shrunk = "" if self.side is None else f", layouts above {self.side} px shrunk to it by the mean of areas"
        return {
            "lpips": f"learned perceptual distance in the features of VGG16 (Zhang et al., 2018, version 0.1){shrunk}; "
            "the mean over layouts, from 0 for equal images upwards"
        }

    def build(self, spec: DataSpec, outputs: Collection[str], image_size: int) -> Measurement:
        if "rgb" not in outputs:
            raise CannotMeasure("the autoencoder has no output rgb")
        try:
            network = VGG16Features(LAYERS, self.weights, "LPIPS")
        except UserError as reason:
            if self.weights is not None:
                raise
            raise CannotMeasure(str(reason)) from reason
        return LpipsRows(network, _heads(), self.side)


class LpipsRows(Measurement, nn.Module):
    """Keeps the distance of each layout."""

    def __init__(self, network: VGG16Features, heads: list[Tensor], side: int | None) -> None:
        super().__init__()
        self.network = network
        self.heads = nn.ParameterList([nn.Parameter(head, requires_grad=False) for head in heads])
        self._side = side

    def rows(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        # One by one: the features of a batch would take gigabytes.
        pairs = [(one[None], other[None]) for one, other in zip(outputs["rgb"], batch["rgb"], strict=True)]
        return {"lpips": torch.stack([self._distance(torch.cat(pair)) for pair in pairs])}

    def figures(self, rows: Mapping[str, Tensor]) -> Mapping[str, float]:
        return {"lpips": float(rows["lpips"].double().mean())}

    def _distance(self, pair: Tensor) -> Tensor:
        """Return the distance of two images (2, 3, H, W) in [-1, 1] as a scalar."""
        if self._side is not None and max(pair.shape[-2:]) > self._side:
            height, width = (max(1, round(side * self._side / max(pair.shape[-2:]))) for side in pair.shape[-2:])
            pair = F.interpolate(pair, (height, width), mode="area")
        distances = []
        for features, head in zip(self.network(pair.clamp(-1, 1)), self.heads, strict=True):
            length = torch.sqrt(features.square().sum(dim=1, keepdim=True) + SMALLEST_SQUARED_LENGTH)
            one, other = (features / length).unbind()
            distances.append(((one - other).square() * head).sum(dim=0).mean())
        return torch.stack(distances).sum()


def _heads() -> list[Tensor]:
    """Return the weights (C, 1, 1) of the channels of each layer; raises CannotMeasure where they are not there."""
    # Imported late: it takes a second or two, and most commands measure nothing.
    import torchmetrics

    path = Path(torchmetrics.__file__).parent / HEADS_FILE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return [state[f"lin{number}.model.1.weight"][0] for number in range(len(LAYERS))]
    except Exception as error:  # torch raises many kinds for a file that is not what it should be
        raise CannotMeasure(
            f"LPIPS needs {path} of the package torchmetrics, which cannot be read ({type(error).__name__}); install "
            "torchmetrics 1.9 anew"
        ) from error
