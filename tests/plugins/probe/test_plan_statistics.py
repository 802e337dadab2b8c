"""Properties of hand-drawn plans, and the distances of their distributions by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from imginav_datasets.classes import PALETTE, LayoutClass
from imginav_probe.plan_statistics import nearest_classes, plan_distances, plan_statistics
from imginav_probe.sample_metrics import LEAST_PIECE, LEAST_ROOM
from imginav_tests.tiny import PALETTE as WITHOUT_WALL

SIDE = 64

Plan = NDArray[np.uint8]


def empty() -> Plan:
    return np.full((SIDE, SIDE), LayoutClass.BACKGROUND, dtype=np.uint8)


def walled() -> Plan:
    """Return a plan that a wall from edge to edge splits into two halves."""
    plan = empty()
    plan[:, 30:32] = LayoutClass.WALL
    return plan


def of_one(plan: Plan, name: str) -> list[float]:
    values: list[float] = plan_statistics(plan[None], PALETTE)[name][0].tolist()
    return values


def test_area_is_the_share_of_the_layout_that_each_class_covers() -> None:
    plan = empty()
    plan[:16, :32] = LayoutClass.BED
    plan[32:, :] = LayoutClass.SOFA
    expected = [0.0] * len(PALETTE)
    expected[LayoutClass.BED], expected[LayoutClass.SOFA], expected[LayoutClass.BACKGROUND] = 1 / 8, 1 / 2, 3 / 8
    assert of_one(plan, "area") == pytest.approx(expected)


def test_each_layout_has_its_own_row() -> None:
    bed = empty()
    bed[:] = LayoutClass.BED
    found = plan_statistics(np.stack([empty(), bed, walled()]), PALETTE)
    assert {name: values.shape for name, values in found.items()} == {
        "area": (3, len(PALETTE)),
        "pieces": (3, len(PALETTE)),
        "rooms": (3, 1),
        "wall_continuity": (3, 1),
    }
    assert found["area"][:, LayoutClass.BED].tolist() == [0, 1, 0]
    assert found["rooms"].tolist() == [[1], [1], [2]]


def test_connected_regions_of_a_class_are_its_pieces() -> None:
    plan = empty()
    for left in (0, 20, 40):
        plan[10:18, left : left + 8] = LayoutClass.CHAIR
    plan[30:40, :] = LayoutClass.TABLE
    pieces = of_one(plan, "pieces")
    assert (pieces[LayoutClass.CHAIR], pieces[LayoutClass.TABLE], pieces[LayoutClass.BED]) == (3, 1, 0)
    assert pieces[LayoutClass.BACKGROUND] == 2  # above the table and below it


def test_pieces_that_touch_at_a_corner_are_two() -> None:
    plan = empty()
    plan[8:16, 8:16] = plan[16:24, 16:24] = LayoutClass.BED
    assert of_one(plan, "pieces")[LayoutClass.BED] == 2
    plan[15, 16] = LayoutClass.BED
    assert of_one(plan, "pieces")[LayoutClass.BED] == 1


def test_neighbouring_pieces_of_two_classes_are_one_of_each() -> None:
    plan = empty()
    plan[8:16, 8:16], plan[8:16, 16:24] = LayoutClass.BED, LayoutClass.SOFA
    pieces = of_one(plan, "pieces")
    assert (pieces[LayoutClass.BED], pieces[LayoutClass.SOFA]) == (1, 1)


def test_specks_are_no_pieces() -> None:
    plan = empty()
    plan[5, :LEAST_PIECE] = LayoutClass.LIGHTING
    plan[9, : LEAST_PIECE - 1] = LayoutClass.LIGHTING
    plan[20, 20] = LayoutClass.STOOL
    pieces = of_one(plan, "pieces")
    assert (pieces[LayoutClass.LIGHTING], pieces[LayoutClass.STOOL]) == (1, 0)


def test_a_wall_from_edge_to_edge_makes_two_rooms_and_one_with_a_door_makes_one() -> None:
    plan = walled()
    assert of_one(plan, "rooms") == [2]
    plan[40:44, 30:32] = LayoutClass.BACKGROUND
    assert of_one(plan, "rooms") == [1]


def test_the_edge_closes_rooms() -> None:
    assert of_one(empty(), "rooms") == [1]
    plan = walled()
    plan[30:32] = LayoutClass.WALL
    assert of_one(plan, "rooms") == [4]
    plan[:] = LayoutClass.WALL
    assert of_one(plan, "rooms") == [0]


def test_furniture_does_not_split_rooms() -> None:
    plan = walled()
    plan[20:24, :30] = LayoutClass.TABLE
    assert of_one(plan, "rooms") == [2]


def test_a_slanted_wall_closes_rooms_and_is_one_wall() -> None:
    plan = empty()
    plan[np.eye(SIDE, dtype=bool)] = LayoutClass.WALL
    assert of_one(plan, "rooms") == [2]
    assert of_one(plan, "wall_continuity") == [1]


def test_small_regions_between_walls_are_no_rooms() -> None:
    assert LEAST_ROOM == 16 * 16
    plan = empty()
    plan[16, :17] = plan[:17, 16] = LayoutClass.WALL
    assert of_one(plan, "rooms") == [2]
    plan[0, 0] = LayoutClass.WALL
    assert of_one(plan, "rooms") == [1]


def test_wall_continuity_is_the_share_of_the_largest_wall() -> None:
    assert of_one(walled(), "wall_continuity") == [1]
    plan = walled()
    plan[:, 10:12] = LayoutClass.WALL
    assert of_one(plan, "wall_continuity") == [0.5]
    plan[:, 50:56] = LayoutClass.WALL
    assert of_one(plan, "wall_continuity") == pytest.approx([0.6])


def test_a_layout_without_walls_has_no_wall_continuity() -> None:
    assert math.isnan(of_one(empty(), "wall_continuity")[0])


def test_a_palette_without_walls_has_areas_and_pieces_alone() -> None:
    plan = np.ones((1, SIDE, SIDE), dtype=np.uint8)
    plan[0, 16:32, 16:32] = 0
    found = plan_statistics(plan, WITHOUT_WALL)
    assert set(found) == {"area", "pieces"}
    assert found["area"].tolist() == [[1 / 16, 15 / 16]]
    assert found["pieces"].tolist() == [[1, 1]]


def test_unmatched_pixels_are_of_no_class() -> None:
    plan = empty()
    plan[:32] = 255
    assert sum(of_one(plan, "area")) == 0.5


def test_distances_are_the_mean_change_that_makes_one_distribution_the_other() -> None:
    true = {"pieces": np.array([[1.0, 5.0], [1.0, 5.0]]), "rooms": np.array([[0.0], [4.0]])}
    other = {"pieces": np.array([[3.0, 5.0], [3.0, 5.0]]), "rooms": np.array([[5.0], [1.0]])}
    assert plan_distances(true, other) == pytest.approx({"pieces": (2 + 0) / 2, "rooms": 1.0})


def test_distances_compare_distributions_and_not_layout_by_layout() -> None:
    true = {"rooms": np.array([[1.0], [2.0], [3.0], [4.0]])}
    assert plan_distances(true, {"rooms": np.array([[4.0], [3.0], [2.0], [1.0]])}) == {"rooms": 0}
    assert plan_distances(true, {"rooms": np.array([[1.0], [4.0]])}) == pytest.approx({"rooms": 0.5})


def test_the_same_layouts_are_at_no_distance() -> None:
    plan = walled()
    plan[:8, :8] = LayoutClass.BED
    statistics = plan_statistics(np.stack([plan, empty(), walled()]), PALETTE)
    assert plan_distances(statistics, statistics) == {"area": 0, "pieces": 0, "rooms": 0, "wall_continuity": 0}


def test_layouts_without_walls_are_left_out_of_the_distance_of_wall_continuity() -> None:
    nan = math.nan
    true, other = np.array([[1.0], [nan], [1.0]]), np.array([[0.75], [nan]])
    assert plan_distances({"wall_continuity": true}, {"wall_continuity": other}) == {"wall_continuity": 0.25}
    none = {"wall_continuity": np.array([[nan], [nan]])}
    assert math.isnan(plan_distances({"wall_continuity": true}, none)["wall_continuity"])


def test_drawn_colours_are_their_classes() -> None:
    classes = np.random.default_rng(0).integers(0, len(PALETTE), (3, 16, 16)).astype(np.uint8)
    np.testing.assert_array_equal(nearest_classes(PALETTE.colour(classes), PALETTE), classes)


def test_other_colours_are_the_nearest_class() -> None:
    rng = np.random.default_rng(1)
    drawn = PALETTE.colour(rng.integers(0, len(PALETTE), (3, 16, 16)).astype(np.uint8))
    noisy = np.clip(drawn.astype(int) + rng.integers(-60, 61, drawn.shape), 0, 255).astype(np.uint8)
    images = np.where(rng.random((3, 16, 16, 1)) < 0.5, drawn, noisy)
    expected = np.stack([PALETTE.nearest(image) for image in images])
    np.testing.assert_array_equal(nearest_classes(images, PALETTE), expected)
    black = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    assert set(nearest_classes(black, PALETTE).ravel().tolist()) == {int(PALETTE.nearest(black[0])[0, 0])}
