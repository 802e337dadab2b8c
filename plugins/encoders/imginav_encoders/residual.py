"""A residual encoder that is cheap at full resolution."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor, nn

from imginav import Encoder
from imginav.plugin import MOST_CHANNELS, from_to

LARGEST_PATCH = 4
"""Side in pixels of the patches that become the first features: drawn in flat colours they need no layer at the
image's own resolution, where a layer costs most."""

MOST_BLOCKS = 32
"""Of a level; deeper networks of this kind do not exist."""


@frozen(kw_only=True)
class ResidualEncoder(Encoder):
    """Residual blocks over patches of 4 × 4 pixels; the width doubles with each further halving of the resolution.

    Its norms look at one position at a time, so that a crop is encoded as the same place of the whole layout is.
    """

    blocks: int = field(default=1, validator=from_to(0, MOST_BLOCKS))  # residual blocks at each level
    hidden: int = field(
        default=0, validator=from_to(0, MOST_CHANNELS)
    )  # features between the pixels of a patch and its own; 0: a linear map

    def build(self) -> nn.Module:
        return ResidualEncoderModule(self)


class ResidualEncoderModule(nn.Module):
    """Images (N, 3, H, W) to latents (N, C, H / 2^steps, W / 2^steps), or mean and log-variance (N, 2C, …)."""

    def __init__(self, config: ResidualEncoder) -> None:
        super().__init__()
        patch, widths = patch_and_widths(config.base_channels, config.downsampling_steps)
        channels = config.latent_channels * (2 if config.variational else 1)
        self.first = patch_layers(patch, widths[0], config.hidden)
        self.levels = nn.Sequential(level(widths[0], config.blocks))
        for before, width in pairwise(widths):
            self.levels.append(nn.Conv2d(before, width, 2, stride=2))
            self.levels.append(level(width, config.blocks))
        self.to_latent = nn.Sequential(ChannelNorm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], channels, 1))

    def forward(self, images: Tensor) -> Tensor:
        latents: Tensor = self.to_latent(self.levels(self.first(images)))
        return latents


def patch_layers(patch: int, features: int, hidden: int) -> nn.Module:
    """Return the layers from patches of pixels to their features.

    A linear map to fewer features than a patch has numbers loses what the pixels were; one to hidden features need not.
    """
    if not hidden:
        return nn.Conv2d(3, features, patch, stride=patch)
    return nn.Sequential(nn.Conv2d(3, hidden, patch, stride=patch), nn.SiLU(), nn.Conv2d(hidden, features, 1))


class ResidualBlock(nn.Module):
    """Features (N, C, h, w) and what two convolutions add to them, which is nothing at first.

    Norm and activation go before the convolutions (He et al., "Identity Mappings in Deep Residual Networks", 2016).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]  # torch says that there may be none
        self.added = nn.Sequential(
            ChannelNorm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), last
        )

    def forward(self, features: Tensor) -> Tensor:
        added: Tensor = self.added(features)
        return features + added


class ChannelNorm(nn.Module):
    """Layer norm over the channels of features (N, C, h, w), at each position for itself (Ba et al., 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        normed = F.layer_norm(features.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias)
        return normed.permute(0, 3, 1, 2)


def level(channels: int, blocks: int) -> nn.Sequential:
    """Return the blocks of one resolution."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))


def patch_and_widths(base_channels: int, steps: int) -> tuple[int, list[int]]:
    """Return the side of a patch in pixels, and the width of each level, the one of the highest resolution first."""
    patch = min(LARGEST_PATCH, 2**steps)
    levels = (2**steps // patch).bit_length()
    return patch, [base_channels * 2**number for number in range(levels)]
