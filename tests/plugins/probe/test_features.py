"""The features of a data set: the same each time, kept in the cache, and none the worse for how they are computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imginav_probe import features
from imginav_probe.features import (
    FEATURES,
    LARGEST_SIDE,
    DenoisingAutoencoder,
    as_images,
    brought_down,
    denoising_loss,
    feature_network,
    features_of,
)
from imginav_probe.windows import TrueLayouts, Windows
from imginav_tests.tiny import Blocks

WINDOWS = Windows(image_size=32, side=32, step=32)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "STEPS", 3)
    monkeypatch.setattr(features, "BATCH", 4)


def network(
    cache: Path | None = None, *, windows: Windows = WINDOWS, data: str = "blocks", **options: Any
) -> DenoisingAutoencoder:
    layouts = TrueLayouts(Blocks(image_size=windows.image_size).open(), range(12))
    return feature_network(layouts, windows, data, cache, nullcontext, torch.device("cpu"), **options)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def noise(count: int = 10, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(features, "_train", refuse)


def test_the_same_data_set_gives_the_same_network_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    first = network()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = network()
    assert same(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert not first.training


def test_a_network_in_the_cache_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = network(tmp_path / "cache")
    forbid_training(monkeypatch)
    again = network(tmp_path / "cache")
    assert same(first, again)
    assert not again.training
    with pytest.raises(AssertionError, match="trained again"):
        network()


@pytest.mark.parametrize("damage", [b"", b"not a file of torch", None])
def test_a_damaged_file_in_the_cache_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    first = network(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert same(network(tmp_path), first)
    assert path.read_bytes() == whole


def test_a_file_of_another_network_is_made_anew(tmp_path: Path) -> None:
    first = network(tmp_path)
    (path,) = tmp_path.iterdir()
    torch.save(nn.Linear(2, 2).state_dict(), path)
    assert same(network(tmp_path), first)


def test_other_windows_and_other_data_get_a_file_of_their_own(tmp_path: Path) -> None:
    network(tmp_path)
    for number, (windows, data) in enumerate(
        [
            (Windows(image_size=64, side=32, step=32), "blocks"),
            (Windows(image_size=64, side=64, step=32), "blocks"),
            (Windows(image_size=64, side=32, step=16), "blocks"),
            (WINDOWS, "other blocks"),
        ]
    ):
        network(tmp_path, windows=windows, data=data)
        assert len(list(tmp_path.iterdir())) == number + 2


def test_a_training_that_is_stopped_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    def stopped(steps: Iterable[int]) -> Iterator[int]:
        yield from list(steps)[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        network(tmp_path, unless_stopped=stopped)
    assert not list(tmp_path.iterdir())


def test_training_teaches_it_to_rebuild_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "WARM_UP_STEPS", 5)
    layouts = TrueLayouts(Blocks(image_size=32).open(), range(16))
    drawn = WINDOWS.draw(16, range(16), torch.Generator().manual_seed(1))
    images = as_images(layouts.rgb(drawn, 32))

    def loss_after(steps: int) -> float:
        monkeypatch.setattr(features, "STEPS", steps)
        return float(denoising_loss(network(), images, torch.Generator().manual_seed(0)).detach())

    assert loss_after(40) < 0.3 * loss_after(0)


def test_bytes_are_images_from_minus_one_to_one() -> None:
    rgb = np.zeros((1, 2, 3, 3), dtype=np.uint8)
    rgb[0, 1, 2] = (0, 255, 51)
    images = as_images(rgb)
    assert images.shape == (1, 3, 2, 3)
    assert images[0, :, 1, 2].tolist() == pytest.approx([-1, 1, 51 / 127.5 - 1])


@pytest.mark.parametrize("at_once", [1, 3, 10, 128])
def test_features_do_not_depend_on_how_many_are_computed_at_once(at_once: int) -> None:
    model, images = network(), noise()
    found = features_of(model, images, at_once=at_once)
    assert found.shape == (10, 2 * FEATURES)
    assert not found.requires_grad
    torch.testing.assert_close(found, features_of(model, images), rtol=1e-4, atol=1e-5)


def test_features_are_the_mean_and_the_standard_deviation_of_the_bottleneck() -> None:
    model, images = network(), noise(4, 64)
    with torch.no_grad():
        maps = model.encoder(images).numpy()
    assert maps.shape == (4, FEATURES, 4, 4)
    found = features_of(model, images).numpy()
    np.testing.assert_allclose(found[:, :FEATURES], maps.mean(axis=(2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[:, FEATURES:], maps.std(axis=(2, 3), ddof=0), rtol=1e-4, atol=1e-6)


def test_an_image_is_rebuilt_at_its_size() -> None:
    images = noise(2, 48)
    assert network()(images).shape == images.shape


@pytest.mark.parametrize(("side", "every"), [(32, 1), (256, 1), (512, 2), (768, 3), (1024, 4)])
def test_larger_images_are_brought_down_without_inventing_colours(side: int, every: int) -> None:
    image = torch.arange(side * side).view(1, 1, side, side).expand(1, 3, side, side)
    found = brought_down(image)
    assert found.shape == (1, 3, side // every, side // every)
    assert found.shape[-1] <= LARGEST_SIDE
    rows, columns = found[0, 1] // side, found[0, 1] % side
    assert set(torch.unique(rows.diff(dim=0)).tolist()) == set(torch.unique(columns.diff(dim=1)).tolist()) == {every}
    assert bool((rows == rows[:, :1]).all())
    middle = (side - 1) / 2
    assert abs(float(rows.float().mean()) - middle) <= 0.5
    assert abs(float(columns.float().mean()) - middle) <= 0.5


@pytest.mark.parametrize("side", [257, 400, 640])
def test_no_image_is_larger_than_the_largest_side(side: int) -> None:
    assert brought_down(noise(1, side)).shape[-1] <= LARGEST_SIDE


def test_features_of_large_images_are_those_of_the_images_brought_down() -> None:
    model, images = network(), noise(2, 512)
    assert torch.equal(features_of(model, images), features_of(model, brought_down(images)))


def test_images_are_rebuilt_from_none_to_nine_tenths_of_noise() -> None:
    seen: list[Tensor] = []

    def blank(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.zeros_like(images)

    model: Any = blank
    images = torch.ones(400, 3, 16, 16)
    loss = denoising_loss(model, images, torch.Generator().manual_seed(0))
    assert float(loss) == 1
    kept, spread = seen[0].mean(dim=(1, 2, 3)), seen[0].std(dim=(1, 2, 3))
    assert float(kept.min()) == pytest.approx(0.1, abs=0.1)
    assert float(kept.max()) == pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(kept + spread, torch.ones(400), atol=0.15, rtol=0)


@pytest.mark.parametrize("side", [16, 272, 544])
def test_windows_of_any_side_that_tokens_fit_have_features(side: int) -> None:
    network = DenoisingAutoencoder().eval()
    images = torch.rand(2, 3, side, side) * 2 - 1
    assert torch.isfinite(features_of(network, images)).all()
    assert network(brought_down(images)).shape == brought_down(images).shape
