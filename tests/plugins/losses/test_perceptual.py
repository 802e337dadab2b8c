"""The loss in VGG16's features, with random weights in torchvision's layout."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imginav import UserError
from imginav.training.objective import Objective
from imginav_losses import Perceptual

# Index in torchvision's `features`, channels in, channels out; two more that the loss does not use.
CONVOLUTIONS = [
    (0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256),
    (17, 256, 8), (19, 8, 8),
]  # fmt: skip
POOLS_BEFORE = (5, 10)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {"classifier.0.weight": torch.zeros(2, 2)}
    for index, before, after in CONVOLUTIONS:
        scale = (2 / (9 * before)) ** 0.5
        state[f"features.{index}.weight"] = scale * torch.randn(after, before, 3, 3, generator=generator)
        state[f"features.{index}.bias"] = 0.1 * torch.randn(after, generator=generator)
    return state


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    output, target = (torch.rand(2, 2, 3, 16, 16, generator=generator) * 2 - 1).unbind()
    return output, target


def features(images: Tensor, state: dict[str, Tensor], last: int) -> Tensor:
    """VGG16 up to the ReLU after convolution `last`, of images in [-1, 1], normalised as ImageNet is."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    values = (((images.permute(0, 2, 3, 1) + 1) / 2 - mean) / std).permute(0, 3, 1, 2)
    for index, _, _ in CONVOLUTIONS:
        if index > last:
            break
        if index in POOLS_BEFORE:
            values = F.max_pool2d(values, 2)
        values = F.conv2d(values, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1).relu()
    return values


@pytest.mark.parametrize(("layer", "last"), [("relu1_2", 2), ("relu2_2", 7), ("relu3_3", 14)])
def test_it_is_the_mean_squared_distance_of_features_of_normalised_images(
    state: dict[str, Tensor], weights: Path, images: tuple[Tensor, Tensor], layer: str, last: int
) -> None:
    output, target = images
    loss = Perceptual(weights=weights, layers=(layer,)).build()  # type: ignore[arg-type]  # one of the three
    expected = F.mse_loss(features(output, state, last), features(target, state, last))
    assert expected > 0.01
    torch.testing.assert_close(loss({"rgb": output}, {"rgb": target}), expected, rtol=1e-4, atol=0)


def test_the_distances_of_several_layers_are_averaged(weights: Path, images: tuple[Tensor, Tensor]) -> None:
    output, target = images

    def distance(*layers: str) -> Tensor:
        loss = Perceptual(weights=weights, layers=layers).build()  # type: ignore[arg-type]  # some of the three
        return loss({"rgb": output}, {"rgb": target})

    each = [distance(layer) for layer in ("relu1_2", "relu3_3")]
    torch.testing.assert_close(distance("relu1_2", "relu3_3"), torch.stack(each).mean())


def test_equal_images_cost_nothing(weights: Path, images: tuple[Tensor, Tensor]) -> None:
    loss = Perceptual(weights=weights).build()
    assert loss({"rgb": images[0]}, {"rgb": images[0].clone()}).item() == 0


def test_the_network_is_frozen_and_the_image_is_not(weights: Path, images: tuple[Tensor, Tensor]) -> None:
    output, target = images
    network = Perceptual(weights=weights).build()
    assert isinstance(network, nn.Module)
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in network.parameters())
    output.requires_grad_()
    network({"rgb": output}, {"rgb": target}).backward()
    assert output.grad is not None
    assert output.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.parameters())


def test_the_hub_cache_is_used_where_no_file_is_named(
    weights: Path, images: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    cached.parent.mkdir(parents=True)
    cached.symlink_to(weights)
    output, target = images
    named, found = Perceptual(weights=weights).build(), Perceptual().build()
    assert torch.equal(named({"rgb": output}, {"rgb": target}), found({"rgb": output}, {"rgb": target}))


def refused(path: Path, message: str) -> None:
    """Assert that a run with these weights ends before its first step, with what is wrong and what to do."""
    remedy = r".*download VGG16's weights .*vgg16-397923af.pth.* name the file as its `weights`, or put it into"
    with pytest.raises(UserError, match=message + remedy):
        Objective({"perceptual": Perceptual(weights=path)}, ["rgb"], ["rgb"])


def test_weights_that_are_missing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path / "none.pth", "the perceptual loss needs .*none.pth, which does not exist; ")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    with pytest.raises(UserError, match=r"needs .*home/hub/checkpoints/vgg16-397923af.pth, .*put it into .*home/hub/"):
        Perceptual().build()


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 half a file"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vgg.pth"
    path.write_bytes(content)
    refused(path, r"the perceptual loss cannot read .*vgg.pth \(\w+\); ")


class Payload:
    """Calls a function when it is unpickled."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self._call = (call, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    path, proof = tmp_path / "vgg.pth", tmp_path / "proof"
    torch.save({"features.0.weight": Payload(Path.touch, proof)}, path)
    refused(path, r"the perceptual loss cannot read .*vgg.pth \(UnpicklingError\); ")
    path.write_bytes(pickle.dumps(Payload(Path.touch, proof)))
    refused(path, r"the perceptual loss cannot read .*vgg.pth \(\w+\); ")
    assert not proof.exists()


def test_something_other_than_a_state_dictionary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    torch.save([torch.zeros(2)], path)
    refused(path, "the perceptual loss found no state dictionary in .*vgg.pth; ")


def test_weights_of_another_network_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    torch.save({**state, "features.5.weight": torch.zeros(128, 32, 3, 3)}, path)
    refused(
        path,
        r".*vgg.pth, which the perceptual loss needs, does not hold VGG16's weights: .*size mismatch for 5.weight.*; ",
    )
    torch.save({key: tensor for key, tensor in state.items() if key != "features.14.bias"}, path)
    refused(
        path, r".*vgg.pth, which the perceptual loss needs, does not hold VGG16's weights: .*'features.14.bias'.*; "
    )


def test_what_all_code_draws_from_is_left_as_it_is(weights: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    Perceptual(weights=weights).build()
    with pytest.raises(UserError, match="does not exist"):
        Perceptual(weights=tmp_path / "none.pth").build()
    assert torch.equal(torch.get_rng_state(), before)


def test_an_output_of_another_shape_is_refused(weights: Path) -> None:
    loss = Perceptual(weights=weights, output="segmentation").build()
    with pytest.raises(UserError, match=r"Perceptual loss: output 'segmentation' has shape \(1, 10, 16, 16\), target"):
        loss({"segmentation": torch.zeros(1, 10, 16, 16)}, {"rgb": torch.zeros(1, 3, 16, 16)})


def test_no_layer_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one layer, found none"):
        Perceptual(layers=())
