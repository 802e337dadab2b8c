"""Errors of pixels against values computed by hand and scikit-image."""

from __future__ import annotations

import math

import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio
from torch import Tensor

from imginav import CannotMeasure, DataSpec
from imginav_metrics import PixelErrors


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rebuilt, true = (torch.rand(2, 4, 3, 8, 8, generator=generator) * 2 - 1).unbind()
    return rebuilt, true


def figures(spec: DataSpec, rebuilt: Tensor, true: Tensor) -> dict[str, float]:
    measurement = PixelErrors().build(spec, ["rgb"], rebuilt.shape[-1])
    return dict(measurement.figures(measurement.rows({"rgb": rebuilt}, {"rgb": true})))


def test_by_hand(spec: DataSpec) -> None:
    true = torch.zeros(2, 3, 1, 1)
    rebuilt = torch.tensor([[0.1, 0.1, 0.1], [-0.2, 0.0, 0.2]]).view(2, 3, 1, 1)
    found = figures(spec, rebuilt, true)
    mse = (0.01 + 0.08 / 3) / 2
    assert found["mse"] == pytest.approx(mse)
    assert found["l1"] == pytest.approx((0.1 + 0.4 / 3) / 2)
    assert found["psnr_db"] == pytest.approx(10 * math.log10(4 / mse))
    each = [10 * math.log10(4 / 0.01), 10 * math.log10(4 * 3 / 0.08)]
    assert found["psnr_mean_db"] == pytest.approx(sum(each) / 2)


def test_as_scikit_image_has_it(spec: DataSpec, images: tuple[Tensor, Tensor]) -> None:
    rebuilt, true = images
    found = figures(spec, rebuilt, true)
    pairs = [(a.numpy(), b.numpy()) for a, b in zip(true, rebuilt, strict=True)]
    errors = [mean_squared_error(a, b) for a, b in pairs]
    assert found["mse"] == pytest.approx(sum(errors) / 4, rel=1e-5)
    each = [peak_signal_noise_ratio(a, b, data_range=2) for a, b in pairs]
    assert found["psnr_mean_db"] == pytest.approx(sum(each) / 4, rel=1e-5)


def test_a_layout_without_error_does_not_spoil_the_mean(spec: DataSpec) -> None:
    true = torch.full((2, 3, 4, 4), 0.88)
    rebuilt = true.clone()
    assert figures(spec, rebuilt, true) == {"mse": 0, "l1": 0, "psnr_db": math.inf, "psnr_mean_db": math.inf}
    rebuilt[1] -= 0.2
    found = figures(spec, rebuilt, true)
    assert found["psnr_mean_db"] == pytest.approx(10 * math.log10(4 / 0.04), rel=1e-5)
    assert found["psnr_db"] == pytest.approx(10 * math.log10(4 / 0.02), rel=1e-5)


def test_an_inverted_layout_is_as_far_as_can_be(spec: DataSpec) -> None:
    true = torch.ones(1, 3, 1, 1)
    assert figures(spec, -true, true) == {"mse": 4, "l1": 2, "psnr_db": 0, "psnr_mean_db": 0}


def test_without_pixels_it_cannot_be_measured(spec: DataSpec) -> None:
    with pytest.raises(CannotMeasure, match="the autoencoder has no output rgb"):
        PixelErrors().build(spec, ["segmentation"], 8)
