"""Windows of layouts and of latents whose values say where they lie."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imginav_probe.windows import AT_ONCE, LEAST_STD, LatentWindows, Places, TrueLayouts, Windows
from imginav_tests.tiny import PALETTE, Blocks

WINDOWS = Windows(image_size=64, side=32, step=8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(*each: tuple[int, int, int]) -> Places:
    return Places(*torch.tensor(each).T)


def normal(count: int = 300, *, channels: int = 3, side: int = 4, seed: int = 0) -> Tensor:
    """Return latents whose channels have means and standard deviations of their own."""
    numbers = torch.arange(1, channels + 1).float()[:, None, None]
    return torch.randn(count, channels, side, side, generator=seeded(seed)) * numbers + 10 * numbers


def test_windows_begin_at_all_multiples_of_the_step_within_the_layout() -> None:
    drawn = WINDOWS.draw(600, range(3), seeded())
    corners = set(zip(drawn.tops.tolist(), drawn.lefts.tolist(), strict=True))
    assert corners == {(top, left) for top in range(0, 33, 8) for left in range(0, 33, 8)}


@pytest.mark.parametrize(("image_size", "last"), [(63, 24), (64, 32), (71, 32), (32, 0)])
def test_windows_end_within_the_layout(image_size: int, last: int) -> None:
    drawn = Windows(image_size=image_size, side=32, step=8).draw(400, range(3), seeded())
    assert (int(drawn.tops.max()), int(drawn.lefts.max())) == (last, last)


@pytest.mark.parametrize("count", [2, 12, 14])
def test_each_layout_is_drawn_as_often_as_the_others(count: int) -> None:
    layouts = [7, 3, 11, 5]
    drawn = WINDOWS.draw(count, layouts, seeded())
    assert len(drawn) == len(drawn.tops) == len(drawn.lefts) == count
    times = [drawn.layouts.tolist().count(layout) for layout in layouts]
    assert sum(times) == count
    assert max(times) - min(times) <= 1


def test_layouts_come_in_random_order() -> None:
    assert WINDOWS.draw(50, range(50), seeded()).layouts.tolist() != list(range(50))
    twice = WINDOWS.draw(100, range(50), seeded()).layouts
    assert twice[:50].tolist() != twice[50:].tolist()


def test_the_same_seed_draws_the_same_windows() -> None:
    first, again, other = (WINDOWS.draw(40, range(9), seeded(seed)) for seed in (1, 1, 2))
    for name in ("layouts", "tops", "lefts"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_some_of_the_places_are_picked_by_number_or_as_a_slice() -> None:
    all_of_them = places((0, 1, 2), (3, 4, 5), (6, 7, 8))
    picked = all_of_them.at(torch.tensor([2, 0]))
    assert [picked.layouts.tolist(), picked.tops.tolist(), picked.lefts.tolist()] == [[6, 0], [7, 1], [8, 2]]
    assert all_of_them.at(slice(1, None)).lefts.tolist() == [5, 8]


def test_windows_of_layouts_are_cut_where_they_lie() -> None:
    source = Blocks(image_size=32).open()
    layouts = TrueLayouts(source, (5, 2, 9))
    wanted = places((2, 8, 16), (0, 0, 4), (2, 16, 0))
    rgb, classes = layouts.rgb(wanted, 16), layouts.classes(wanted, 16)
    assert (rgb.shape, rgb.dtype, classes.shape, classes.dtype) == ((3, 16, 16, 3), np.uint8, (3, 16, 16), np.uint8)
    for number, (index, top, left) in enumerate([(9, 8, 16), (5, 0, 4), (9, 16, 0)]):
        whole = source.read(index)
        np.testing.assert_array_equal(rgb[number], whole["rgb"][top : top + 16, left : left + 16])
        np.testing.assert_array_equal(classes[number], whole["segmentation"][top : top + 16, left : left + 16])


def test_layouts_of_classes_alone_are_coloured() -> None:
    blocks = Blocks(image_size=32).open()
    source: Any = SimpleNamespace(
        spec=blocks.spec, read=lambda index: {"segmentation": blocks.read(index)["segmentation"]}
    )
    wanted = places((1, 4, 12))
    bare, whole = TrueLayouts(source, (0, 3)).rgb(wanted, 16), TrueLayouts(blocks, (0, 3)).rgb(wanted, 16)
    np.testing.assert_array_equal(bare, whole)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_windows_of_latents_and_of_layouts_are_the_same_place(factor: int) -> None:
    rows, columns = np.mgrid[:64, :64].astype(np.uint8)

    def read(index: int) -> dict[str, Any]:
        return {"rgb": np.stack([np.full_like(rows, index), rows, columns], axis=2)}

    source: Any = SimpleNamespace(spec=SimpleNamespace(palette=PALETTE), read=read)
    layouts = TrueLayouts(source, (4, 30, 17))
    whole = layouts.rgb(places((0, 0, 0), (1, 0, 0), (2, 0, 0)), 64)
    mean = torch.from_numpy(whole[:, ::factor, ::factor]).permute(0, 3, 1, 2).half()
    latents = LatentWindows(mean, None, factor)
    assert (latents.channels, latents.cells(32)) == (3, 32 // factor)
    drawn = WINDOWS.draw(30, range(3), seeded())
    found = latents.restored(latents.of(drawn, 32))
    assert found.shape == (30, 3, 32 // factor, 32 // factor)
    rgb = torch.from_numpy(layouts.rgb(drawn, 32))[:, ::factor, ::factor].permute(0, 3, 1, 2)
    torch.testing.assert_close(found, rgb.float(), atol=1e-3, rtol=0)


def test_latents_are_standardised_by_channel() -> None:
    mean = normal()
    assert len(mean) > AT_ONCE
    latents = LatentWindows(mean, None, 8)
    values = mean.double().numpy()
    np.testing.assert_allclose(latents.means[:, 0, 0], values.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(latents.stds[:, 0, 0], values.std(axis=(0, 2, 3)), rtol=1e-5)
    whole = latents.of(places(*[(n, 0, 0) for n in range(len(mean))]), 32)
    np.testing.assert_allclose(whole.mean(dim=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(whole.std(dim=(0, 2, 3), correction=0), 1, rtol=1e-5)


def test_the_variance_of_drawn_latents_counts() -> None:
    mean = normal()
    log_variance = 2 + torch.randn(mean.shape, generator=seeded(1))
    latents = LatentWindows(mean, log_variance, 8)
    values, spread = mean.double().numpy(), np.exp(log_variance.double().numpy())
    expected = np.sqrt(values.var(axis=(0, 2, 3)) + spread.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(latents.means[:, 0, 0], values.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(latents.stds[:, 0, 0], expected, rtol=1e-5)
    drawn = latents.of(places(*[(n, 0, 0) for n in range(len(mean))] * 4), 32, seeded(2))
    np.testing.assert_allclose(drawn.mean(dim=(0, 2, 3)), 0, atol=0.03)
    np.testing.assert_allclose(drawn.std(dim=(0, 2, 3)), 1, atol=0.03)


def test_drawn_latents_differ_by_the_generator_and_are_the_mean_without() -> None:
    mean, log_variance = normal(40), torch.randn(40, 3, 4, 4, generator=seeded(1))
    latents = LatentWindows(mean, log_variance, 8)
    wanted = places(*[(n, 8, 16) for n in range(40)] * 10)
    first, again, other = (latents.of(wanted, 16, seeded(seed)) for seed in (2, 2, 3))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    cut = mean[:, :, 1:3, 2:4].repeat(10, 1, 1, 1)
    torch.testing.assert_close(latents.of(wanted, 16), (cut - latents.means) / latents.stds)
    std = torch.exp(0.5 * log_variance[:, :, 1:3, 2:4]).repeat(10, 1, 1, 1)
    drawn = (latents.restored(first) - cut) / std
    assert float(drawn.mean()) == pytest.approx(0, abs=0.05)
    assert float(drawn.std()) == pytest.approx(1, abs=0.05)


def test_latents_that_are_not_variational_are_never_drawn() -> None:
    latents = LatentWindows(normal(5), None, 8)
    wanted = places((0, 0, 0), (4, 8, 8))
    assert torch.equal(latents.of(wanted, 16, seeded()), latents.of(wanted, 16))


def test_restored_undoes_standardising() -> None:
    mean = normal(20)
    latents = LatentWindows(mean, None, 8)
    restored = latents.restored(latents.of(places((3, 8, 0), (19, 16, 8)), 16))
    torch.testing.assert_close(restored, torch.stack([mean[3, :, 1:3, 0:2], mean[19, :, 2:4, 1:3]]))


def test_others_are_standardised_by_the_moments_of_those_they_are_like() -> None:
    training = LatentWindows(normal(), None, 8)
    mean = normal(20, seed=5) * 3 - 7
    latents = LatentWindows(mean, None, 8, like=training)
    assert torch.equal(latents.means, training.means)
    assert torch.equal(latents.stds, training.stds)
    expected = (mean[2, :, :2, :2] - training.means) / training.stds
    torch.testing.assert_close(latents.of(places((2, 0, 0)), 16)[0], expected)


@pytest.mark.parametrize("value", [0.0, 0.1, -300.0])
def test_a_dead_channel_stays_finite_and_small(value: float) -> None:
    mean = normal(50)
    mean[:, 1] = value + 1e-5 * torch.randn(50, 4, 4, generator=seeded(1))
    latents = LatentWindows(mean, None, 8)
    whole = latents.of(places(*[(n, 0, 0) for n in range(50)]), 32)
    assert float(whole[:, 1].abs().max()) < 0.1
    others = (mean[:, [0, 2]].double().var(dim=(0, 2, 3), correction=0)).sum() / 3
    assert float(latents.stds[1]) == pytest.approx(LEAST_STD * float(others.sqrt()), rel=1e-3)
    np.testing.assert_allclose(whole[:, [0, 2]].std(dim=(0, 2, 3), correction=0), 1, rtol=1e-4)


def test_latents_that_are_all_dead_are_finite() -> None:
    latents = LatentWindows(torch.full((4, 2, 4, 4), 0.1), None, 8)
    assert bool(latents.of(places((0, 0, 0), (3, 8, 8)), 16).isfinite().all())


def test_latents_in_half_precision_are_standardised_in_full() -> None:
    mean = normal(AT_ONCE + 44, side=8)
    half, full = LatentWindows(mean.half(), None, 4), LatentWindows(mean.half().float(), None, 4)
    assert torch.equal(half.means, full.means)
    assert torch.equal(half.stds, full.stds)
    assert half.of(places((0, 0, 0)), 32).dtype == torch.float32
