"""Recall and precision of hand-made walls."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imginav_probe.walls import walls_kept

Walls = NDArray[np.bool_]


def cross(down: int = 0, right: int = 0) -> Walls:
    """Return a window (1, 32, 32) with a horizontal and a vertical wall of one pixel, moved."""
    walls = np.zeros((1, 32, 32), dtype=bool)
    walls[0, 10 + down, 4 + right : 24 + right] = walls[0, 4 + down : 24 + down, 12 + right] = True
    return walls


def across(row: int) -> Walls:
    walls = np.zeros((1, 32, 32), dtype=bool)
    walls[0, row] = True
    return walls


def both(given: Walls, found: Walls) -> tuple[float, float]:
    kept = walls_kept(given, found)
    return kept.recall, kept.precision


@pytest.mark.parametrize("down", [-1, 0, 1])
@pytest.mark.parametrize("right", [-1, 0, 1])
def test_walls_one_pixel_off_in_any_direction_are_kept(down: int, right: int) -> None:
    assert both(cross(), cross(down, right)) == (1, 1)


@pytest.mark.parametrize("row", [8, 12])
def test_walls_two_pixels_off_are_lost(row: int) -> None:
    assert both(across(10), across(row)) == (0, 0)


def test_half_of_a_wall_has_half_the_recall_and_full_precision() -> None:
    found = across(10)
    found[:, :, 16:] = False
    recall, precision = both(across(10), found)
    assert (recall, precision) == (17 / 32, 1)  # a pixel past the end of what was found is near it


def test_a_wall_too_many_costs_precision_alone() -> None:
    assert both(across(10), across(10) | across(20)) == (1, 0.5)


def test_nothing_found_has_no_recall() -> None:
    assert both(cross(), np.zeros_like(cross())) == (0, 0)


def test_nothing_given_has_no_precision() -> None:
    assert both(np.zeros_like(cross()), cross()) == (0, 0)


def test_pixels_of_all_windows_count_together() -> None:
    short = np.zeros((1, 32, 32), dtype=bool)
    short[0, 10, :8] = True
    nothing = np.zeros_like(short)
    assert both(np.concatenate([short, across(10)]), np.concatenate([short, nothing])) == (8 / 40, 1)
    assert both(np.concatenate([short, nothing]), np.concatenate([short, across(10)])) == (1, 8 / 40)


def test_walls_of_one_window_are_not_those_of_the_next() -> None:
    nothing = np.zeros_like(cross())
    assert both(np.concatenate([cross(), nothing]), np.concatenate([nothing, cross()])) == (0, 0)
