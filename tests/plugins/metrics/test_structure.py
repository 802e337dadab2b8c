"""SSIM and MS-SSIM against values computed by hand, scikit-image and torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from imginav import CannotMeasure, DataSpec
from imginav_metrics import Structure
from imginav_metrics.structure import similarities

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def pair(side: int, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Return an image of coloured tiles (1, 3, side, side) in [-1, 1] with noise, and without."""
    generator = torch.Generator().manual_seed(side)
    tiles = torch.rand(1, 3, side // 8, side // 8, generator=generator) * 2 - 1
    true = F.interpolate(tiles, (side, side))
    return (true + noise * torch.randn(true.shape, generator=generator)).clamp(-1, 1), true


def by_scikit_image(one: Tensor, other: Tensor) -> float:
    """SSIM of images (1, 3, H, W) in [0, 1], with the settings of Wang et al."""
    found = structural_similarity(
        one[0].numpy(), other[0].numpy(), data_range=1, channel_axis=0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    return float(found)


@pytest.mark.parametrize("side", [16, 64])
@pytest.mark.parametrize("noise", [0.02, 0.3, 2.0])
def test_ssim_is_that_of_scikit_image(side: int, noise: float) -> None:
    rebuilt, true = pair(side, noise)
    expected = by_scikit_image((rebuilt + 1) / 2, (true + 1) / 2)
    assert float(similarities(rebuilt, true)[0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("noise", [0.02, 0.3, 2.0])
def test_ms_ssim_is_the_product_of_torchmetrics_contrasts_and_scikit_images_ssim(noise: float) -> None:
    rebuilt, true = pair(192, noise)
    one, other = (rebuilt + 1) / 2, (true + 1) / 2
    expected = 1.0
    for weight in WEIGHTS[:-1]:
        _, contrast = structural_similarity_index_measure(
            one, other, data_range=1.0, return_contrast_sensitivity=True, reduction="none"
        )
        expected *= float(contrast) ** weight
        one, other = F.avg_pool2d(one, 2), F.avg_pool2d(other, 2)
    expected *= by_scikit_image(one, other) ** WEIGHTS[-1]
    found = float(similarities(rebuilt, true)[1])
    assert found == pytest.approx(expected, abs=1e-5)
    # torchmetrics' own differs in the coarsest scale, which it pads with mirrored pixels.
    whole = multiscale_structural_similarity_index_measure(rebuilt / 2 + 0.5, true / 2 + 0.5, data_range=1.0)
    assert found == pytest.approx(float(whole), abs=0.02)


@pytest.mark.parametrize("value", [-1.0, 0.0, 0.88, None])
def test_equal_images_are_alike_even_if_they_are_blank(value: float | None) -> None:
    image = pair(176)[1] if value is None else torch.full((1, 3, 176, 176), value)
    assert [float(found) for found in similarities(image, image.clone())] == pytest.approx([1, 1], abs=1e-6)


def test_two_blank_images_differ_by_their_means_alone() -> None:
    one, other = torch.full((1, 3, 176, 176), 0.6), torch.full((1, 3, 176, 176), -0.6)  # 0.8 and 0.2 in [0, 1]
    luminance = (2 * 0.8 * 0.2 + 1e-4) / (0.64 + 0.04 + 1e-4)
    ssim, ms_ssim = similarities(one, other)
    assert float(ssim) == pytest.approx(luminance, rel=1e-3)
    assert float(ms_ssim) == pytest.approx(luminance ** WEIGHTS[-1], rel=1e-3)


def test_an_inverted_image_has_the_opposite_structure() -> None:
    _, true = pair(192)
    ssim, ms_ssim = similarities(-true, true)
    assert float(ssim) < 0
    assert float(ms_ssim) == 0


def test_values_out_of_range_are_cut_off() -> None:
    rebuilt, true = pair(176)
    beyond = torch.where(rebuilt >= 1, 3.0, torch.where(rebuilt <= -1, -3.0, rebuilt))
    assert (beyond != rebuilt).any()
    assert similarities(beyond, true) == similarities(rebuilt, true)


@pytest.mark.parametrize(("side", "known"), [(1, (False, False)), (10, (False, False)), (11, (True, False)),
                                             (175, (True, False)), (176, (True, True))])  # fmt: skip
def test_images_that_are_too_small_for_the_window_have_none(side: int, known: tuple[bool, bool]) -> None:
    image = torch.rand(1, 3, side, side)
    assert tuple(bool(found.isfinite()) for found in similarities(image, image)) == known


def test_of_several_layouts_it_is_the_mean_and_none_where_none_can_be_had(spec: DataSpec) -> None:
    pairs = [pair(64, noise) for noise in (0.1, 0.5)]
    rebuilt, true = (torch.cat(images) for images in zip(*pairs, strict=True))
    measurement = Structure().build(spec, ["rgb"], 64)
    rows = measurement.rows({"rgb": rebuilt}, {"rgb": true})
    expected = [float(similarities(*images)[0]) for images in pairs]
    assert rows["ssim"].tolist() == pytest.approx(expected)
    found = measurement.figures(rows)
    assert found["ssim"] == pytest.approx(sum(expected) / 2)
    assert math.isnan(found["ms_ssim"])


def test_without_pixels_it_cannot_be_measured(spec: DataSpec) -> None:
    with pytest.raises(CannotMeasure, match="the autoencoder has no output rgb"):
        Structure().build(spec, ["segmentation"], 64)
