"""LPIPS against torchmetrics, with random weights of VGG16: the trained ones are a download."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from imginav import CannotMeasure, DataSpec, Measurement, UserError
from imginav_metrics import Lpips, lpips

CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Of torchvision's VGG16, in the order of its layers; 0 stands for a maximum over 2×2 pixels."""


@pytest.fixture(scope="module")
def vgg16() -> nn.Sequential:
    """Return torchvision's `features` with weights that keep the size of what passes through."""
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    before = 3
    for channels in CHANNELS:
        if not channels:
            layers.append(nn.MaxPool2d(2))
            continue
        convolution = nn.Conv2d(before, channels, 3, padding=1)
        nn.init.normal_(convolution.weight, std=(2 / (9 * before)) ** 0.5, generator=generator)
        nn.init.normal_(convolution.bias, std=0.1, generator=generator)
        layers += [convolution, nn.ReLU()]
        before = channels
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def weights(vgg16: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg.pth"
    torch.save({f"features.{key}": tensor for key, tensor in vgg16.state_dict().items()}, path)
    return path


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    rebuilt, true = (torch.rand(2, 3, 3, 32, 32, generator=generator) * 2 - 1).unbind()
    return rebuilt, true


def distances(measurement: Measurement, rebuilt: Tensor, true: Tensor) -> Tensor:
    with torch.no_grad():
        return measurement.rows({"rgb": rebuilt}, {"rgb": true})["lpips"]


def test_it_is_that_of_torchmetrics(
    spec: DataSpec,
    weights: Path,
    vgg16: nn.Sequential,
    images: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It asks torchvision, which is not installed, for the network alone.
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda net, pretrained: vgg16)
    theirs = torchmetrics_lpips._NoTrainLpips(net="vgg")
    measurement = Lpips(weights=weights).build(spec, ["rgb"], 32)
    found = distances(measurement, *images)
    with torch.no_grad():
        expected = theirs(*images).flatten()
    assert (expected > 0.01).all()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    assert measurement.figures({"lpips": found})["lpips"] == pytest.approx(float(expected.mean()), rel=1e-4)


def test_equal_images_have_no_distance_and_inverted_ones_some(
    spec: DataSpec, weights: Path, images: tuple[Tensor, Tensor]
) -> None:
    measurement = Lpips(weights=weights).build(spec, ["rgb"], 32)
    blank = torch.full((1, 3, 16, 16), 0.88)
    assert distances(measurement, images[0], images[0].clone()).tolist() == [0, 0, 0]
    assert distances(measurement, blank, blank.clone()).tolist() == [0]
    assert (distances(measurement, -images[0], images[0]) > 0).all()


def test_larger_layouts_are_shrunk_by_the_mean_of_areas(
    spec: DataSpec, weights: Path, images: tuple[Tensor, Tensor]
) -> None:
    shrunk = Lpips(weights=weights, side=16).build(spec, ["rgb"], 32)
    whole = Lpips(weights=weights, side=None).build(spec, ["rgb"], 32)
    small = [F.avg_pool2d(image, 2) for image in images]
    torch.testing.assert_close(distances(shrunk, *images), distances(whole, small[0], small[1]))
    torch.testing.assert_close(distances(shrunk, small[0], small[1]), distances(whole, small[0], small[1]))
    assert not torch.allclose(distances(whole, *images), distances(shrunk, *images))
    assert "above 16 px shrunk" in Lpips(side=16).definitions["lpips"]
    assert "shrunk" not in Lpips(side=None).definitions["lpips"]


def test_its_weights_are_moved_and_never_trained(spec: DataSpec, weights: Path) -> None:
    measurement = Lpips(weights=weights).build(spec, ["rgb"], 32)
    assert isinstance(measurement, nn.Module)
    assert len(list(measurement.parameters())) == 13 * 2 + 5
    assert not any(parameter.requires_grad for parameter in measurement.parameters())


def test_without_weights_it_is_left_out_with_the_remedy(
    spec: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    message = (
        r"^LPIPS needs .*/hub/checkpoints/vgg16-397923af\.pth, which does not exist; download VGG16's weights .* and "
        r"name the file as its `weights`, or put it into .*/hub/checkpoints$"
    )
    with pytest.raises(CannotMeasure, match=message):
        Lpips().build(spec, ["rgb"], 32)


def test_weights_that_lie_in_the_cache_are_found(
    spec: DataSpec, weights: Path, images: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    cached.parent.mkdir(parents=True)
    cached.symlink_to(weights)
    found, named = (metric.build(spec, ["rgb"], 32) for metric in (Lpips(), Lpips(weights=weights)))
    assert torch.equal(distances(found, *images), distances(named, *images))


def test_a_file_that_is_named_has_to_be_there(spec: DataSpec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"LPIPS needs .*none\.pth, which does not exist"):
        Lpips(weights=tmp_path / "none.pth").build(spec, ["rgb"], 32)


@pytest.mark.parametrize("content", [None, b"", b"no weights"])
def test_without_the_weights_of_the_channels_it_is_left_out(
    spec: DataSpec, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    path = tmp_path / "heads.pth"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(lpips, "HEADS_FILE", path)
    with pytest.raises(CannotMeasure, match=r"LPIPS needs .*heads\.pth of the package torchmetrics, which cannot be"):
        Lpips(weights=weights).build(spec, ["rgb"], 32)


def test_without_pixels_it_cannot_be_measured(spec: DataSpec, weights: Path) -> None:
    with pytest.raises(CannotMeasure, match="the autoencoder has no output rgb"):
        Lpips(weights=weights).build(spec, ["segmentation"], 32)
