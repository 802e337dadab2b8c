"""How large the networks of a starter are."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Size:
    """The widths and depths of a denoising network and its text encoders."""

    unet: tuple[int, ...]  # channels of a UNet's levels; fewer where the latent cannot be halved as often
    layers: int  # residual blocks of each level
    heads: int  # of a UNet's attention
    width: int  # of a transformer
    depth: int  # blocks of a transformer
    transformer_heads: int
    condition: int  # what the usual channels of a ControlNet's conditioning embedding are divided by
    text: int  # width of a text encoder
    text_layers: int

    def levels(self, side: int) -> tuple[int, ...]:
        """Return the channels of a UNet's levels for latents of `side` cells, which each level but the last halves."""
        halvings = 0
        while halvings < len(self.unet) - 1 and side % 2 ** (halvings + 1) == 0:
            halvings += 1
        return self.unet[: halvings + 1]


SIZES = {
    "tiny": Size(
        unet=(32, 64),
        layers=1,
        heads=4,
        width=64,
        depth=2,
        transformer_heads=4,
        condition=4,
        text=32,
        text_layers=2,
    ),
    "small": Size(
        unet=(128, 256, 384),
        layers=2,
        heads=8,
        width=384,
        depth=12,
        transformer_heads=6,
        condition=1,
        text=256,
        text_layers=4,
    ),
    "base": Size(
        unet=(256, 512, 768),
        layers=2,
        heads=8,
        width=768,
        depth=12,
        transformer_heads=12,
        condition=1,
        text=512,
        text_layers=6,
    ),
}
"""Those that `imginav starter --size` takes: to try a script, for one GPU in a day, and beyond."""
