"""From colours to classes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from imginav.plugin.palette import UNMATCHED, Palette
from imginav_datasets.classes import PALETTE

NEAR = Palette(names=("left", "right", "far"), colours=((100, 50, 50), (110, 50, 50), (250, 250, 0)), background="far")
"""Two colours so near that one pixel may be within the tolerance of both."""

CLASSES = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 9))
COLOUR = st.tuples(*[st.integers(0, 255)] * 3)


def matched(palette: Palette, colour: tuple[int, int, int], tolerance: int) -> int:
    return int(palette.match(np.array([[colour]], dtype=np.uint8), tolerance)[0, 0])


def nearest(palette: Palette, colour: tuple[int, int, int], tolerance: int) -> set[int]:
    """The nearest of the classes within the tolerance; several where they are equally near, none where none is."""
    within = {
        index: sum((a - b) ** 2 for a, b in zip(colour, own, strict=True))
        for index, own in enumerate(palette.colours)
        if max(abs(a - b) for a, b in zip(colour, own, strict=True)) <= tolerance
    }
    return {index for index, distance in within.items() if distance == min(within.values())} or {UNMATCHED}


@pytest.mark.parametrize("tolerance", [0, 8])
@given(segmentation=CLASSES)
def test_classes_come_back_from_their_colours(segmentation: NDArray[np.uint8], tolerance: int) -> None:
    rgb = PALETTE.colour(segmentation)
    assert rgb.shape == (*segmentation.shape, 3)
    assert np.array_equal(PALETTE.match(rgb, tolerance), segmentation)


@given(segmentation=CLASSES, noise=st.integers(0, 2**32 - 1))
def test_classes_come_back_from_colours_that_are_off_by_no_more_than_the_tolerance(
    segmentation: NDArray[np.uint8], noise: int
) -> None:
    off = np.random.default_rng(noise).integers(-8, 9, (*segmentation.shape, 3))
    rgb = (PALETTE.colour(segmentation) + off).clip(0, 255).astype(np.uint8)
    assert np.array_equal(PALETTE.match(rgb, 8), segmentation)


@given(colour=COLOUR, tolerance=st.sampled_from([0, 8, 60]))
def test_any_colour_belongs_to_its_nearest_class_or_to_none(colour: tuple[int, int, int], tolerance: int) -> None:
    assert matched(PALETTE, colour, tolerance) in nearest(PALETTE, colour, tolerance)


@pytest.mark.parametrize("index", range(len(PALETTE)))
@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_tolerance_holds_in_each_channel_and_not_a_step_further(index: int, channel: int, sign: int) -> None:
    def beside(by: int) -> tuple[int, int, int]:
        colour = list(PALETTE.colours[index])
        colour[channel] += sign * by
        return (colour[0], colour[1], colour[2])

    inside, outside = beside(8), beside(9)
    if 0 <= inside[channel] <= 255:
        assert matched(PALETTE, inside, 8) == index
    if 0 <= outside[channel] <= 255:
        assert matched(PALETTE, outside, 8) == UNMATCHED


def test_a_colour_off_in_all_channels_is_within_the_tolerance_of_each() -> None:
    assert matched(PALETTE, (208, 192, 208), 8) == PALETTE.names.index("wall")
    assert matched(PALETTE, (208, 191, 208), 8) == UNMATCHED


def test_without_a_tolerance_only_the_colour_itself_is_matched() -> None:
    assert matched(PALETTE, (240, 240, 240), 0) == PALETTE.names.index("background")
    assert matched(PALETTE, (240, 240, 241), 0) == UNMATCHED


@pytest.mark.parametrize(("red", "name"), [(95, "left"), (104, "left"), (106, "right"), (115, "right")])
def test_the_nearest_of_two_classes_is_taken(red: int, name: str) -> None:
    for order in (slice(None), slice(None, None, -1)):
        palette = Palette(names=NEAR.names[order], colours=NEAR.colours[order], background="far")
        assert matched(palette, (red, 50, 50), 15) == palette.names.index(name)


@given(colour=st.tuples(st.integers(85, 125), st.integers(35, 65), st.integers(35, 65)))
def test_the_nearest_is_meant_by_the_distance_of_colours(colour: tuple[int, int, int]) -> None:
    assert matched(NEAR, colour, 15) in nearest(NEAR, colour, 15)


def test_unmatched_pixels_are_shown_in_black() -> None:
    segmentation = np.array([[UNMATCHED, 0]], dtype=np.uint8)
    assert PALETTE.colour(segmentation).tolist() == [[[0, 0, 0], list(PALETTE.colours[0])]]


def test_a_batch_is_coloured_as_its_layouts_are() -> None:
    segmentation = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 10
    assert np.array_equal(PALETTE.colour(segmentation), np.stack([PALETTE.colour(layout) for layout in segmentation]))


def test_the_background_has_the_colour_of_its_class() -> None:
    assert PALETTE.background_colour == (240, 240, 240)
    assert NEAR.background_colour == (250, 250, 0)


def test_every_class_has_a_colour_of_its_own() -> None:
    assert len(PALETTE) == len(PALETTE.names) == len(PALETTE.colours) == len(set(PALETTE.colours)) == 10


def test_the_nearest_class_is_that_of_the_nearest_colour_however_far_it_is() -> None:
    palette = Palette(
        names=("red", "blue", "white"), colours=((255, 0, 0), (0, 0, 255), (255, 255, 255)), background="white"
    )
    rgb = np.array(
        [[[255, 0, 0], [200, 30, 60]], [[0, 0, 10], [128, 128, 128]], [[0, 255, 0], [127, 0, 127]]], np.uint8
    )
    # Black is as far from red as it is from blue but for ten levels; of two that are as near, the first counts.
    assert palette.nearest(rgb).tolist() == [[0, 0], [1, 2], [0, 0]]
    assert palette.nearest(rgb).dtype == np.uint8
