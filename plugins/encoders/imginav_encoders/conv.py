"""The original convolutional encoder of the users' project."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor, cat, nn

from imginav import Encoder

GROUPS = 8
"""Groups of each GroupNorm."""


@frozen(kw_only=True)
class ConvEncoder(Encoder):
    """Plain convolutions with GroupNorm and SiLU; the width doubles with each halving of the resolution."""

    def __attrs_post_init__(self) -> None:
        if self.base_channels % GROUPS:
            raise ValueError(
                f"expected base_channels to be a multiple of {GROUPS}, the groups of its norm, "
                f"found {self.base_channels}"
            )

    def build(self) -> nn.Module:
        return ConvEncoderModule(self)


class ConvEncoderModule(nn.Module):
    """Images (N, 3, H, W) to latents (N, C, H / 2^steps, W / 2^steps), or mean and log-variance (N, 2C, …)."""

    def __init__(self, config: ConvEncoder) -> None:
        super().__init__()
        widths = [config.base_channels * 2**step for step in range(config.downsampling_steps)]
        self.levels = nn.Sequential(
            *(_level(before, width) for before, width in zip([3, *widths], widths, strict=False))
        )
        self.last = nn.Sequential(
            nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.GroupNorm(GROUPS, widths[-1]), nn.SiLU()
        )
        # Mean and log-variance, or the latent alone.
        self.to_latent = nn.ModuleList(
            nn.Conv2d(widths[-1], config.latent_channels, 1) for _ in range(2 if config.variational else 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        features = self.last(self.levels(images))
        return cat([convolution(features) for convolution in self.to_latent], dim=1)


def _level(in_channels: int, channels: int) -> nn.Sequential:
    """Return the layers of one halving of the resolution."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1),
        nn.GroupNorm(GROUPS, channels),
        nn.SiLU(),
        nn.Conv2d(channels, channels, 4, stride=2, padding=1),
        nn.GroupNorm(GROUPS, channels),
        nn.SiLU(),
    )
