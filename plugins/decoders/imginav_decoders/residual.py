"""A residual decoder that is cheap at full resolution."""

from __future__ import annotations

from itertools import pairwise

from attrs import field, frozen
from torch import Tensor, nn

from imginav import DataSpec, Decoder, Encoder
from imginav.plugin import Heads, from_to
from imginav_encoders.residual import MOST_BLOCKS, ChannelNorm, level, patch_and_widths


@frozen(kw_only=True)
class ResidualDecoder(Decoder):
    """The residual encoder's levels in reverse; its heads draw patches of 4 × 4 pixels from the last features.

    Nothing before the heads is computed at the image's own resolution, where a layer costs most.
    """

    blocks: int = field(default=1, validator=from_to(0, MOST_BLOCKS))  # residual blocks at each level

    def build(self, encoder: Encoder, spec: DataSpec) -> nn.Module:
        """Return the decoder for an encoder's latents; raises ValueError where torch cannot keep a head by its name."""
        base_channels = self.base_channels or encoder.base_channels
        patch, widths = patch_and_widths(base_channels, encoder.downsampling_steps)
        heads = Heads(self.heads, widths[0], spec, patch)
        return ResidualDecoderModule(encoder.latent_channels, widths, self.blocks, heads)


class ResidualDecoderModule(nn.Module):
    """Latents (N, C, h, w) to the outputs of the heads, each (N, …, h · 2^steps, w · 2^steps) or (N, …)."""

    def __init__(self, latent_channels: int, widths: list[int], blocks: int, heads: Heads) -> None:
        super().__init__()
        self.first = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        self.levels = nn.Sequential(level(widths[-1], blocks))
        for before, width in pairwise(reversed(widths)):
            self.levels.append(nn.Sequential(nn.Conv2d(before, 4 * width, 1), nn.PixelShuffle(2)))
            self.levels.append(level(width, blocks))
        self.last = nn.Sequential(ChannelNorm(widths[0]), nn.SiLU())
        self.heads = heads

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = self.heads(self.last(self.levels(self.first(latents))))
        return outputs
