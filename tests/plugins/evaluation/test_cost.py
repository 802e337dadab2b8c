"""What an autoencoder needs, against counts by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from imginav.manifest.resolved import ResolvedManifest
from imginav_evaluation.cost import META, peak_bytes, size_of

PLANE = 16 * 16 * 4
"""Bytes of one channel of 16 × 16 pixels in fp32."""


def sequence(*, in_place: bool) -> nn.Module:
    with torch.device(META):
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=in_place), nn.Conv2d(8, 1, 3, padding=1))


@pytest.mark.parametrize(("in_place", "planes"), [(False, 8 + 8), (True, 8 + 1)])
def test_what_is_alive_at_a_time_is_counted(in_place: bool, planes: int) -> None:
    with torch.no_grad():
        assert peak_bytes(sequence(in_place=in_place), torch.empty(1, 3, 16, 16, device=META)) == planes * PLANE


def test_a_branch_that_is_kept_is_counted_as_long_as_it_is() -> None:
    class Residual(nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            wide = value.repeat(1, 4, 1, 1)  # 12 planes, held until the sum
            return (wide * 2 + 1) + wide

    with torch.no_grad():
        # The product is freed when its sum with 1 is there; beside `wide`, two are alive at a time.
        assert peak_bytes(Residual(), torch.empty(1, 3, 16, 16, device=META)) == 3 * 12 * PLANE


def test_a_view_needs_no_memory_of_its_own() -> None:
    with torch.no_grad():
        assert peak_bytes(nn.Flatten(), torch.empty(1, 3, 16, 16, device=META)) == 0


def test_the_size_of_the_tiny_autoencoder(resolve: Callable[..., ResolvedManifest]) -> None:
    manifest = resolve().manifest
    spec = manifest.data.open().spec
    size = size_of(manifest, spec)
    encoder = manifest.encoder.build()
    assert size.encoder_bytes == 4 * sum(p.numel() for p in encoder.parameters())
    # The convolutions of the encoder by hand: 2 · in · kernel² · out · positions; norms and activations count as none.
    flops = sum(
        2 * i * k * k * o * side * side
        for i, k, o, side in (
            (3, 3, 16, 32),
            (16, 4, 16, 16),
            (16, 3, 32, 16),
            (32, 4, 32, 8),
            (32, 3, 32, 8),
            (32, 1, 2, 8),
        )
    )
    assert size.encode_flops == flops
    # At full resolution, a norm takes 16 channels and gives as many, beside the means and deviations of 8 groups.
    assert size.encode_peak_bytes == 2 * 16 * 32 * 32 * 4 + 2 * 8 * 4
    assert size.training_bytes > size.encode_peak_bytes + size.decode_peak_bytes
    doubled = size_of(resolve("data.image_size=64").manifest, spec)
    assert doubled.encode_flops == 4 * size.encode_flops
    assert doubled.encoder_bytes == size.encoder_bytes
    # What is trained on are crops.
    assert size_of(resolve("data.image_size=64", "data.crop=32").manifest, spec).training_bytes == size.training_bytes
