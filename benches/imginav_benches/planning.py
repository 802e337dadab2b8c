"""What encoding and decoding cost beside the steps of a diffusion model: a table for planning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

REFERENCE_CELLS = 32 * 32
"""Cells of the latent over which `--unet-ms` holds."""


@frozen
class Diffusion:
    """The diffusion model that is planned for."""

    sampling_steps: tuple[int, ...]
    unet_ms: float  # of one step on one image whose latent has `REFERENCE_CELLS` cells

    def step_ms(self, latent: Sequence[int]) -> float:
        """Return the time of a step over a latent (height, width, channels), in proportion to its cells.

        Convolutions take so; the attention of a UNet's fine levels takes more over more cells.
        """
        height, width, _ = latent
        return self.unet_ms * height * width / REFERENCE_CELLS


@frozen
class Coded:
    """What was measured of one autoencoder on single images."""

    name: str
    latent: tuple[int, int, int]  # height, width, channels
    encode_ms: float
    decode_ms: float
    peak_bytes: int  # the larger one of encoding and decoding; 0: not known


@frozen
class Plan:
    """One image that is encoded, sampled and decoded: each part's share of the time."""

    coded: Coded
    steps: int
    image_ms: float
    encode_share: float
    decode_share: float

    @property
    def images_per_second(self) -> float:
        return 1e3 / self.image_ms


def plans(coded: Sequence[Coded], diffusion: Diffusion) -> Iterator[Plan]:
    """Return a plan for each autoencoder and number of sampling steps."""
    for steps in diffusion.sampling_steps:
        for one in coded:
            image_ms = one.encode_ms + steps * diffusion.step_ms(one.latent) + one.decode_ms
            yield Plan(one, steps, image_ms, one.encode_ms / image_ms, one.decode_ms / image_ms)
