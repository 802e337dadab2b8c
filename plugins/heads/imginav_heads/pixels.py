"""Heads that say something of every pixel."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor, nn

from imginav import DataSpec, Head
from imginav.plugin import MOST_CHANNELS, from_to

GROUPS = 8
"""Groups of each GroupNorm."""


@frozen(kw_only=True)
class RgbHead(Head):
    """The image itself: (N, 3, H, W) in [-1, 1]."""

    def build(self, in_channels: int, spec: DataSpec, patch: int) -> nn.Module:
        return nn.Sequential(*_pixel_layers(in_channels, 3, patch), nn.Tanh())


@frozen(kw_only=True)
class SegmentationHead(Head):
    """The class of every pixel: logits (N, classes, H, W), no probabilities (cross-entropy takes their softmax)."""

    def build(self, in_channels: int, spec: DataSpec, patch: int) -> nn.Module:
        return nn.Sequential(*_pixel_layers(in_channels, len(spec.palette), patch))


@frozen(kw_only=True)
class PaletteHead(Head):
    """The class of every pixel, and the image in the colours of the classes.

    `segmentation` are logits (N, classes, H, W). `rgb` (N, 3, H, W) in [-1, 1] is the mean of the colours under the
    logits' softmax while the network trains, so that losses of pixels have gradients; otherwise it is the colour of
    the likeliest class, so that what is decoded has the palette's colours and no others, unless `colours` says else.
    """

    colours: Literal["likeliest", "mean"] = "likeliest"  # of decoded images; their mean has the lower MSE
    hidden: int = field(
        default=0, validator=from_to(0, MOST_CHANNELS)
    )  # features between those of a patch and its logits; 0: a linear map

    def outputs(self, name: str) -> tuple[str, ...]:
        return ("rgb", "segmentation")

    def build(self, in_channels: int, spec: DataSpec, patch: int) -> nn.Module:
        if "segmentation" not in spec.targets:
            raise ValueError(
                "the head palette paints in the colours of classes, and the images of this data set have none; take "
                'it out with decoder.heads.palette = false, and name decoder.heads.rgb = { type = "rgb" }'
            )
        colours = torch.tensor(spec.palette.colours, dtype=torch.float32) / 127.5 - 1.0
        logits = nn.Sequential(*_pixel_layers(in_channels, len(spec.palette), patch, self.hidden))
        return PaletteHeadModule(logits, colours, always_mean=self.colours == "mean")


class PaletteHeadModule(nn.Module):
    """Features to logits of classes, and to pixels of their colours."""

    colours: Tensor  # (classes, 3) in [-1, 1]

    def __init__(self, logits: nn.Sequential, colours: Tensor, *, always_mean: bool) -> None:
        super().__init__()
        self.logits = logits
        self._always_mean = always_mean
        self._trains_colours = True
        self._trains_patches = False
        # They are the data set's, not the network's: no weight, and not in its checkpoints.
        self.register_buffer("colours", colours, persistent=False)

    def train_for(self, outputs: Collection[str], in_patches: Collection[str]) -> None:
        """Mix no colours in training where no loss reads them, and leave logits in patches where all losses take them.

        On a CPU, mixing the colours takes a tenth of a step, and putting logits in place and back nearly as much.
        """
        self._trains_colours = "rgb" in outputs
        shuffles = isinstance(self.logits[-1], nn.PixelShuffle)
        self._trains_patches = shuffles and not self._trains_colours and "segmentation" in in_patches

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        if self.training and self._trains_patches:
            patches = self.logits[:-1](features)
            return {"segmentation": patches.unflatten(1, (len(self.colours), -1))}
        logits = self.logits(features)
        if self.training and not self._trains_colours:
            return {"segmentation": logits}
        mean = self.training or self._always_mean
        return {
            "rgb": self._mean_colour(logits) if mean else self._likeliest_colour(logits),
            "segmentation": logits,
        }

    def _mean_colour(self, logits: Tensor) -> Tensor:
        return F.conv2d(logits.softmax(dim=1), self.colours.t()[:, :, None, None])

    def _likeliest_colour(self, logits: Tensor) -> Tensor:
        return F.embedding(logits.argmax(dim=1), self.colours).permute(0, 3, 1, 2)


def _pixel_layers(in_channels: int, out_channels: int, patch: int, hidden: int = 0) -> list[nn.Module]:
    """Return the layers from features of patches of pixels to values of each pixel."""
    if patch > 1:
        # The decoder has worked its features out; another layer that looks around would cost more than all before it.
        # A linear map of few features cannot draw any shape between any two classes, though.
        before = [nn.Conv2d(in_channels, hidden, 1), nn.SiLU()] if hidden else []
        return [*before, nn.Conv2d(hidden or in_channels, out_channels * patch**2, 1), nn.PixelShuffle(patch)]
    return [
        nn.Conv2d(in_channels, in_channels, 3, padding=1),
        nn.GroupNorm(GROUPS, in_channels),
        nn.SiLU(),
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
    ]
