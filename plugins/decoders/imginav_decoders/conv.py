"""The original convolutional decoder of the users' project."""

from __future__ import annotations

from itertools import pairwise

from attrs import frozen
from torch import Tensor, nn

from imginav import DataSpec, Decoder, Encoder
from imginav.plugin import Heads

GROUPS = 8
"""Groups of each GroupNorm."""


@frozen(kw_only=True)
class ConvDecoder(Decoder):
    """Transposed convolutions with GroupNorm and SiLU; the width halves with each doubling of the resolution."""

    def build(self, encoder: Encoder, spec: DataSpec) -> nn.Module:
        """Return the decoder for an encoder's latents.

        Raises ValueError where the last width is no multiple of 8, or torch cannot keep a head by its name.
        """
        base_channels = self.base_channels or encoder.base_channels
        # The first doubling halves the width too, so the last features have half of base_channels.
        if base_channels % (2 * GROUPS):
            raise ValueError(
                f"the conv decoder needs base_channels to be a multiple of {2 * GROUPS}, found {base_channels}; "
                f"set encoder.base_channels or decoder.base_channels"
            )
        heads = Heads(self.heads, base_channels // 2, spec)
        return ConvDecoderModule(encoder.latent_channels, base_channels, encoder.downsampling_steps, heads)


class ConvDecoderModule(nn.Module):
    """Latents (N, C, h, w) to the outputs of the heads, each (N, …, h · 2^steps, w · 2^steps) or (N, …)."""

    def __init__(self, latent_channels: int, base_channels: int, steps: int, heads: Heads) -> None:
        super().__init__()
        widths = [base_channels * 2**step // 2 for step in range(steps, -1, -1)]
        self.first = nn.Sequential(
            nn.Conv2d(latent_channels, widths[0], 3, padding=1), nn.GroupNorm(GROUPS, widths[0]), nn.SiLU()
        )
        self.levels = nn.Sequential(*(_level(before, width) for before, width in pairwise(widths)))
        self.heads = heads

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = self.heads(self.levels(self.first(latents)))
        return outputs


def _level(in_channels: int, channels: int) -> nn.Sequential:
    """Return the layers of one doubling of the resolution."""
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, channels, 4, stride=2, padding=1), nn.GroupNorm(GROUPS, channels), nn.SiLU()
    )
