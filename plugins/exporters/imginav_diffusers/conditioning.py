"""The conditioning embedding of a ControlNet, which downsamples its image to the size of the latent."""

from __future__ import annotations

FIRST, LAST = 16, 256

DIFFUSERS = (16, 32, 96, 256)
"""What diffusers takes by default, for latents of an eighth of the image's side."""


def conditioning_channels(factor: int) -> tuple[int, ...]:
    """Return `conditioning_embedding_out_channels` for latents of a `factor`-th of the image's side, a power of two.

    Each channel count after the first halves the image, so that there is one more of them than halvings.
    """
    halvings = factor.bit_length() - 1
    if halvings == len(DIFFUSERS) - 1:
        return DIFFUSERS
    between = [min(LAST, FIRST * 2 ** (number + 1)) for number in range(halvings - 1)]
    return (FIRST, *between, LAST) if halvings else (LAST,)
