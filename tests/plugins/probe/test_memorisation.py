"""Planted copies of training windows are found, and new layouts are not taken for copies."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imginav.pixels import to_floats
from imginav_probe.features import as_images
from imginav_probe.memorisation import (
    LEAST_CONTRAST,
    TrainingCells,
    cell_size,
    cells_of,
    memorised_share,
    shows_something,
)
from imginav_probe.sample_metrics import EXPECTED
from imginav_probe.windows import Places, TrueLayouts, Windows
from imginav_tests.tiny import PALETTE, Blocks

WINDOWS = Windows(image_size=64, side=32, step=8)


def tiled(seed: int, count: int) -> TrueLayouts:
    """Return layouts of 64 px of random coloured tiles."""

    def read(index: int) -> dict[str, Any]:
        tiles = np.random.default_rng((seed, index)).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        return {"rgb": tiles.repeat(4, axis=0).repeat(4, axis=1)}

    source: Any = SimpleNamespace(spec=SimpleNamespace(palette=PALETTE), read=read)
    return TrueLayouts(source, range(count))


def drawn(layouts: TrueLayouts, count: int, seed: int = 0) -> tuple[Places, Tensor]:
    """Return random windows and their cells."""
    places = WINDOWS.draw(count, range(len(layouts.indices)), torch.Generator().manual_seed(seed))
    return places, cells_of(as_images(layouts.rgb(places, WINDOWS.side)))


@pytest.mark.parametrize(
    ("side", "size"), [(8, 1), (16, 1), (31, 1), (32, 2), (48, 2), (64, 4), (96, 4), (112, 4), (128, 8), (512, 32)]
)
def test_cells_are_powers_of_two_and_at_least_sixteen_along_a_side(side: int, size: int) -> None:
    assert cell_size(side) == size


def test_cells_have_the_mean_colours() -> None:
    image = torch.arange(3 * 32 * 32).view(1, 3, 32, 32).float()
    found = cells_of(image)
    assert found.shape == (1, 3 * 16 * 16)
    by_hand = (image[0, 1, 6, 10] + image[0, 1, 6, 11] + image[0, 1, 7, 10] + image[0, 1, 7, 11]) / 4
    assert found[0, 1 * 256 + 3 * 16 + 5] == by_hand


def test_planted_copies_are_found_where_they_lie() -> None:
    training = tiled(0, 5)
    places, cells = drawn(training, 60)
    nearest = TrainingCells(training, WINDOWS).nearest(cells)
    assert float(nearest.distances.max()) < 1e-2
    for found, expected in zip(
        (nearest.places.layouts, nearest.places.tops, nearest.places.lefts),
        (places.layouts, places.tops, places.lefts),
        strict=True,
    ):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("windows", [Windows(image_size=32, side=16, step=8), Windows(image_size=32, side=32, step=32)])
def test_windows_of_drawn_layouts_are_found_too(windows: Windows) -> None:
    training = TrueLayouts(Blocks(image_size=32).open(), (3, 0, 8, 12))
    places = windows.draw(40, range(4), torch.Generator().manual_seed(0))
    rgb = training.rgb(places, windows.side)
    nearest = TrainingCells(training, windows).nearest(cells_of(as_images(rgb)))
    assert float(nearest.distances.max()) < 1e-2
    np.testing.assert_array_equal(training.rgb(nearest.places, windows.side), rgb)


def test_distances_are_the_root_mean_square_difference_of_the_cells() -> None:
    training = tiled(0, 3)
    places, cells = drawn(training, 10)
    off = torch.full_like(cells, 0.3)
    off[:, ::2] = -0.1
    nearest = TrainingCells(training, WINDOWS).nearest(cells + off)
    assert nearest.distances.tolist() == pytest.approx([math.sqrt((0.3**2 + 0.1**2) / 2)] * 10, rel=1e-3)
    assert nearest.places.layouts.tolist() == places.layouts.tolist()


def test_the_nearest_window_is_that_of_a_search_through_all() -> None:
    training = tiled(0, 3)
    _, queries = drawn(tiled(1, 6), 12)
    every = [
        (layout, top, left)
        for layout in range(3)
        for top in range(0, 33, WINDOWS.step)
        for left in range(0, 33, WINDOWS.step)
    ]
    whole = cells_of(as_images(training.rgb(Places(*torch.tensor(every).T), WINDOWS.side)))
    distances = (queries[:, None] - whole[None]).square().mean(dim=2).sqrt().min(dim=1)
    found = TrainingCells(training, WINDOWS).nearest(queries)
    assert found.distances.tolist() == pytest.approx(distances.values.tolist(), rel=1e-4)
    places = zip(found.places.layouts.tolist(), found.places.tops.tolist(), found.places.lefts.tolist(), strict=True)
    assert list(places) == [every[index] for index in distances.indices.tolist()]


def test_turned_layouts_are_no_copies() -> None:
    training = tiled(0, 3)
    places, _ = drawn(training, 10)
    turned = training.rgb(places, WINDOWS.side)[:, :, ::-1].copy()
    assert float(TrainingCells(training, WINDOWS).nearest(cells_of(as_images(turned))).distances.min()) > 0.2


def test_the_share_of_copies_shows_beside_what_new_layouts_have() -> None:
    training = tiled(0, 4)
    cells = TrainingCells(training, WINDOWS)
    validation = cells.nearest(drawn(tiled(1, 400), 400)[1]).distances
    fresh = cells.nearest(drawn(tiled(2, 400), 400)[1]).distances
    copies = cells.nearest(drawn(training, 400)[1]).distances
    assert memorised_share(fresh, validation) == pytest.approx(EXPECTED, abs=0.04)
    for share in (0.25, 0.5, 1.0):
        mixed = torch.cat([copies[: int(400 * share)], fresh[int(400 * share) :]])
        assert memorised_share(mixed, validation) == pytest.approx(share + (1 - share) * EXPECTED, abs=0.04)


def test_new_layouts_have_the_expected_share() -> None:
    generator = torch.Generator().manual_seed(0)
    validation, fresh = torch.rand(2, 20_000, generator=generator)
    assert memorised_share(fresh, validation) == pytest.approx(EXPECTED, abs=0.01)
    assert memorised_share(fresh + 1, validation) == 0
    assert memorised_share(fresh - 1, validation) > 0.99


def test_samples_count_that_are_strictly_nearer_than_the_quantile() -> None:
    validation = torch.arange(21).float()  # whose 5 % quantile is 1
    assert memorised_share(torch.tensor([0.0, 0.5, 1.0, 2.0]), validation) == 0.5


def test_no_samples_or_no_validation_layouts_have_no_share() -> None:
    assert math.isnan(memorised_share(torch.empty(0), torch.rand(5)))
    assert math.isnan(memorised_share(torch.rand(5), torch.empty(0)))


def test_no_windows_have_no_nearest() -> None:
    training = tiled(0, 2)
    nearest = TrainingCells(training, WINDOWS).nearest(drawn(training, 4)[1][:0])
    assert (len(nearest.distances), len(nearest.places)) == (0, 0)


def test_flat_windows_are_left_out_whatever_their_colour() -> None:
    white = to_floats(torch.full((3, 32, 32), 240))
    red = to_floats(torch.tensor([228, 26, 28])[:, None, None].expand(3, 32, 32))
    faint, corner, one_channel = white.clone(), white.clone(), white.clone()
    faint[:, ::2] -= LEAST_CONTRAST / 4
    corner[:, :16, :16] = red[:, :16, :16]
    one_channel[2, :16] = -1
    found = shows_something(cells_of(torch.stack([white, red, faint, corner, one_channel])))
    assert found.tolist() == [False, False, False, True, True]


def test_contrast_is_the_standard_deviation_of_the_cells() -> None:
    cells = torch.zeros(2, 3, 16, 16)
    cells[0, 1, :, ::2] = 2.2 * LEAST_CONTRAST
    cells[1, 1, :, ::2] = 1.8 * LEAST_CONTRAST
    assert shows_something(cells.flatten(1)).tolist() == [True, False]


def test_windows_of_more_than_a_thousand_pixels_begin_at_whole_cells() -> None:
    assert cell_size(1024) == 32
    layouts = TrueLayouts(Blocks(image_size=1088, count=1).open(), range(1))
    windows = Windows(image_size=1088, side=1024, step=32)
    training = TrainingCells(layouts, windows)
    place = Places(torch.tensor([0]), torch.tensor([32]), torch.tensor([64]))
    nearest = training.nearest(cells_of(to_floats(torch.from_numpy(layouts.rgb(place, 1024))).permute(0, 3, 1, 2)))
    assert float(nearest.distances[0]) == pytest.approx(0, abs=1e-3)
