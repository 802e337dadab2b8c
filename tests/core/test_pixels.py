"""Bytes and floats in [-1, 1], and the PSNR."""

from __future__ import annotations

import math

import pytest
import torch

from imginav.pixels import psnr_db, to_bytes, to_floats


def test_every_byte_comes_back_as_it_was() -> None:
    grey = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    images = to_floats(grey).permute(0, 3, 1, 2)
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)
    assert torch.equal(torch.from_numpy(to_bytes(images)), grey)


def test_floats_become_the_nearest_byte_and_never_wrap_around() -> None:
    values = torch.tensor([200.4, 200.6, 255.4, 300.0, -40.0])
    pixels = to_bytes((values / 127.5 - 1).view(1, 1, 1, 5).expand(1, 3, 1, 5))
    assert pixels[0, 0, :, 0].tolist() == [200, 201, 255, 255, 0]


@pytest.mark.parametrize(("mse", "expected"), [(0.0, math.inf), (4.0, 0.0), (0.04, 20.0), (0.004, 30.0)])
def test_psnr_is_of_a_span_of_two(mse: float, expected: float) -> None:
    assert psnr_db(mse) == pytest.approx(expected)
