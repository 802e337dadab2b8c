"""The embedded layouts look like layouts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from imginav_datasets.classes import LayoutClass
from imginav_datasets.drawing import draw_room, draw_scene
from imginav_datasets.drawing.pen import Brush, Canvas, Frame
from imginav_datasets.drawing.walls import Room, WallStyle, draw_walls, open_door, walls_of

Draw = Callable[..., NDArray[np.uint8]]
SEEDS = 60
FURNITURE = [c for c in LayoutClass if c not in (LayoutClass.WALL, LayoutClass.BACKGROUND)]


@pytest.fixture(scope="module", params=[draw_room, draw_scene], ids=["rooms", "scenes"])
def drawn(request: pytest.FixtureRequest) -> list[NDArray[np.uint8]]:
    """Many layouts of 512 px of one type."""
    return [request.param(np.random.default_rng(seed)) for seed in range(SEEDS)]


@pytest.mark.parametrize("draw", [draw_room, draw_scene])
@pytest.mark.parametrize("size", [64, 256, 512])
def test_one_seed_draws_one_layout_at_any_size(draw: Draw, size: int) -> None:
    first, again, other = (draw(np.random.default_rng(seed), size) for seed in (5, 5, 6))
    assert first.shape == (size, size)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_only_the_ten_classes_are_drawn_and_each_of_them_somewhere(drawn: list[NDArray[np.uint8]]) -> None:
    assert set(np.unique(np.stack(drawn))) == {int(c) for c in LayoutClass}


def test_most_of_a_layout_is_background_and_all_have_walls(drawn: list[NDArray[np.uint8]]) -> None:
    background = [(layout == LayoutClass.BACKGROUND).mean() for layout in drawn]
    walls = [(layout == LayoutClass.WALL).mean() for layout in drawn]
    assert 0.6 < np.median(background) < 0.92
    assert min(background) > 0.45
    assert min(walls) > 0.002
    assert 0.03 < np.median(walls) < 0.2


def test_nearly_all_layouts_have_furniture_and_a_few_have_none(drawn: list[NDArray[np.uint8]]) -> None:
    furnished = [np.isin(layout, FURNITURE).any() for layout in drawn]
    assert 0.85 < np.mean(furnished) < 1


def test_furniture_stands_within_the_walls(drawn: list[NDArray[np.uint8]]) -> None:
    outside = 0.0
    for layout in drawn:
        rows, columns = np.nonzero(layout == LayoutClass.WALL)
        furniture = np.isin(layout, FURNITURE)
        total = max(1, furniture.sum())
        furniture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = False
        outside += furniture.sum() / total
    assert outside / len(drawn) < 0.02


def test_some_layouts_dissolve_into_squares() -> None:
    edges = []
    for seed in range(150):
        layout = draw_room(np.random.default_rng(seed)).astype(int)
        edges.append((np.diff(layout, axis=0) != 0).sum() / max(1, (layout != LayoutClass.BACKGROUND).sum()))
    # A solid shape has few edges for its area, a handful of squares has many.
    assert 0.02 < np.mean(np.array(edges) > 0.3) < 0.12


def test_a_wall_is_two_lines_with_a_gap_and_a_door_is_closed_at_its_ends() -> None:
    canvas, style = Canvas(100), WallStyle(thickness=16, stroke=5)
    walls = walls_of([Room(10, 20, 90, 80)])
    assert len(walls) == 4
    assert all(wall.outer for wall in walls)
    draw_walls(canvas, walls, style)
    across = canvas.classes()[12:28, 50] == LayoutClass.WALL
    assert across.tolist() == [True] * 5 + [False] * 6 + [True] * 5
    top = next(wall for wall in walls if wall.horizontal and wall.y0 == 20)
    open_door(canvas, top, 30, 50, style)
    along = canvas.classes()[20, 30:70] == LayoutClass.WALL
    assert along.tolist() == [False] * 5 + [True] * 5 + [False] * 20 + [True] * 5 + [False] * 5


def test_rooms_that_touch_share_one_wall() -> None:
    walls = walls_of([Room(0, 0, 50, 40), Room(50, 0, 90, 40)])
    assert [(w.x0, w.y0, w.x1, w.y1) for w in walls if not w.outer] == [(50, 0, 50, 40)]
    assert sum(wall.outer for wall in walls) == 6


def test_a_brush_roughens_edges_and_leaves_holes() -> None:
    square = Frame(50, 10, 0.0, 1.0).rectangle(0, 0, 60, 60)
    areas = []
    for grain, holes in ((0.0, 0.0), (5.0, 0.0), (0.0, 8.0)):
        canvas = Canvas(100)
        Brush(canvas, np.random.default_rng(0), grain=grain, holes=holes).fill(square, LayoutClass.BED)
        areas.append((canvas.classes() == LayoutClass.BED).sum())
    plain, rough, pierced = areas
    assert plain == pytest.approx(61 * 61, rel=0.02)
    assert rough > plain
    assert pierced < 0.95 * plain
