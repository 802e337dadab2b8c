"""Whole layouts: where the walls stand, which rooms there are, how well all of it was sampled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from imginav_datasets.classes import LayoutClass
from imginav_datasets.drawing.furniture import ROOMS, Furnisher, bath, bedroom, dining, hall, living
from imginav_datasets.drawing.pen import Brush, Canvas
from imginav_datasets.drawing.walls import (
    Room,
    Wall,
    WallStyle,
    break_wall,
    draw_chamfer,
    draw_walls,
    fill_window,
    open_door,
    walls_of,
)

SPARSE_SHARE = 0.06
"""Of layouts that were sampled so sparsely that they dissolve into squares."""

EMPTY_SHARE = 0.03
"""Of layouts without furniture."""

SQUARE = 4
"""Side of the squares of a sparse layout of 512 pixels, in pixels."""


def draw_room(rng: np.random.Generator, size: int = 512) -> NDArray[np.uint8]:
    """Return a single room that fills much of the picture, as class indices (size, size)."""
    canvas = Canvas(size)
    room, scale = _space(rng, size, metres=(2.6, 5.4), share=(0.7, 0.96))
    style = _style(rng, size, narrow=False)
    rooms = [room]
    if rng.random() < 0.2:  # an alcove makes it L-shaped
        rooms.append(_alcove(rng, room))
    walls = walls_of(rooms)
    draw_walls(canvas, [wall for wall in walls if wall.outer], style)
    for wall in walls:
        _finish(canvas, wall, style, scale, rng, doors=0.35, windows=0.3, broken=0.22)
        if not wall.outer:  # an alcove is open to its room
            canvas.box(*wall.box(style.inner, wall.length - style.inner, style.thickness), LayoutClass.BACKGROUND)
    if rng.random() < 0.12 and len(rooms) == 1:
        draw_chamfer(canvas, room, style, size=float(rng.uniform(0.08, 0.22)) * room.width)
    _slabs(canvas, rooms, rng, share=0.18)
    if rng.random() >= EMPTY_SHARE:
        kinds, shares = list(ROOMS), np.array(list(ROOMS.values()))
        furnish = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
        _furnish(canvas, room, style, scale, furnish, _brush(canvas, rng))
        if furnish is living and rng.random() < 0.3:
            _furnish(canvas, room, style, scale, dining, _brush(canvas, rng))
    return _sampled(canvas.classes(), rng)


def draw_scene(rng: np.random.Generator, size: int = 512) -> NDArray[np.uint8]:
    """Return a flat of several rooms, as class indices (size, size)."""
    canvas = Canvas(size)
    outline, scale = _space(rng, size, metres=(6.5, 11.0), share=(0.75, 0.97))
    rooms = _partition(rng, outline, smallest=2.0 * scale, largest=5.2 * scale)
    rooms = _without_corner(rng, rooms, outline)
    style = _style(rng, size, narrow=True)
    walls = walls_of(rooms)
    draw_walls(canvas, walls, style)
    for wall in walls:
        _finish(canvas, wall, style, scale, rng, doors=0.2 if wall.outer else 0.8, windows=0.4, broken=0.08)
    _slabs(canvas, rooms, rng, share=0.12)
    if rng.random() >= EMPTY_SHARE:
        brush = _brush(canvas, rng)
        for room, furnish in zip(rooms, _uses(rng, rooms, scale), strict=True):
            if rng.random() < 0.8:
                _furnish(canvas, room, style, scale, furnish, brush)
    return _sampled(canvas.classes(), rng)


def _space(
    rng: np.random.Generator, size: int, metres: tuple[float, float], share: tuple[float, float]
) -> tuple[Room, float]:
    """Return a place in the picture for so many metres of length, and the pixels of a metre."""
    sides = np.array([rng.uniform(*metres), rng.uniform(*metres)])
    scale = float(size * rng.uniform(*share) / sides.max())
    width, height = sides * scale
    left, top = rng.uniform(0.01, 1.0, 2) * (size * 0.98 - np.array([width, height]))
    return Room(*(float(round(v)) for v in (left, top, left + width, top + height))), scale


def _style(rng: np.random.Generator, size: int, *, narrow: bool) -> WallStyle:
    unit = size / 512
    stroke = rng.uniform(4, 7) if narrow else rng.uniform(5, 10)
    gap = rng.uniform(3, 8) if narrow else rng.uniform(4, 20)
    return WallStyle(thickness=float(round((2 * stroke + gap) * unit)), stroke=float(max(2, round(stroke * unit))))


def _brush(canvas: Canvas, rng: np.random.Generator) -> Brush:
    grain = rng.uniform(3, 6) if rng.random() < 0.75 else 0.0
    holes = rng.uniform(2, 12) if rng.random() < 0.12 else 0.0
    return Brush(canvas, rng, grain=float(grain), holes=float(holes))


def _alcove(rng: np.random.Generator, room: Room) -> Room:
    """Return a narrower space that adjoins the room at the bottom or on its right."""
    share, depth = rng.uniform(0.35, 0.7), rng.uniform(0.15, 0.3)
    if rng.random() < 0.5:
        return Room(room.left, room.bottom, round(room.left + share * room.width), round(room.bottom * (1 + depth)))
    return Room(room.right, room.top, round(room.right * (1 + depth)), round(room.top + share * room.height))


def _partition(rng: np.random.Generator, space: Room, smallest: float, largest: float) -> list[Room]:
    """Cut a space in two again and again, until each room is of a size that rooms have."""
    across = space.width > space.height
    length = max(space.width, space.height)
    if length < 2 * smallest or (length < largest and rng.random() < 0.85):
        return [space]
    cut = round(float(rng.uniform(smallest, length - smallest)))
    if across:
        parts = [
            Room(space.left, space.top, space.left + cut, space.bottom),
            Room(space.left + cut, space.top, space.right, space.bottom),
        ]
    else:
        parts = [
            Room(space.left, space.top, space.right, space.top + cut),
            Room(space.left, space.top + cut, space.right, space.bottom),
        ]
    return [room for part in parts for room in _partition(rng, part, smallest, largest)]


def _without_corner(rng: np.random.Generator, rooms: list[Room], outline: Room) -> list[Room]:
    """Leave one or two rooms at the corners out, so that the outline is no rectangle."""
    for _ in range(int(rng.integers(0, 3))):
        corners = [
            room
            for room in rooms
            if room.left == outline.left or room.right == outline.right
            if room.top == outline.top or room.bottom == outline.bottom
        ]
        if corners and len(rooms) > 3:
            rooms = [room for room in rooms if room is not corners[int(rng.integers(len(corners)))]]
    return rooms


def _uses(rng: np.random.Generator, rooms: list[Room], scale: float) -> list[Callable[[Furnisher], None]]:
    """Return what each room of a flat is used as: the largest to live in, the smallest as bath and hall."""
    by_area = sorted(range(len(rooms)), key=lambda i: rooms[i].width * rooms[i].height, reverse=True)
    kinds, shares = list(ROOMS), np.array(list(ROOMS.values()))
    uses: list[Callable[[Furnisher], None]] = [hall] * len(rooms)
    for rank, index in enumerate(by_area):
        area = rooms[index].width * rooms[index].height / scale**2
        if rank == 0:
            uses[index] = living
        elif area < 5:
            uses[index] = bath if rng.random() < 0.6 else hall
        elif rank < 3:
            uses[index] = bedroom
        else:
            uses[index] = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
    return uses


def _finish(
    canvas: Canvas,
    wall: Wall,
    style: WallStyle,
    scale: float,
    rng: np.random.Generator,
    *,
    doors: float,
    windows: float,
    broken: float,
) -> None:
    """Give a wall its door, its window or its break, each with a probability."""
    door = min(0.9 * scale, 0.5 * wall.length)
    if wall.outer and rng.random() < windows and wall.length > 4 * style.thickness:
        length = rng.uniform(0.25, 0.8) * wall.length
        start = float(rng.uniform(0, wall.length - length))
        fill_window(canvas, wall, start, start + length, style)
    if rng.random() < doors and wall.length > door + 4 * style.thickness:
        start = float(rng.uniform(1.5 * style.thickness, wall.length - door - 1.5 * style.thickness))
        open_door(canvas, wall, start, start + door, style)
    elif wall.outer and rng.random() < broken:
        break_wall(canvas, wall, style, rng)


def _slabs(canvas: Canvas, rooms: list[Room], rng: np.random.Generator, share: float) -> None:
    """Put grey slabs beside the walls, as where a ceiling was cut."""
    if rng.random() >= share:
        return
    for _ in range(int(rng.integers(1, 4))):
        room = rooms[int(rng.integers(len(rooms)))]
        width, height = rng.uniform(0.1, 0.35) * room.width, rng.uniform(0.15, 0.6) * room.height
        x = room.left if rng.random() < 0.5 else room.right - width * rng.uniform(0.2, 1.0)
        y = rng.uniform(room.top, room.bottom - height)
        canvas.box(x, y, x + width, y + height, LayoutClass.WALL)


def _furnish(
    canvas: Canvas, room: Room, style: WallStyle, scale: float, furnish: Callable[[Furnisher], None], brush: Brush
) -> None:
    inside = room.shrunk(style.thickness / 2 + 1)
    if min(inside.width, inside.height) > 0.8 * scale:
        furnish(Furnisher(brush, brush.rng, inside, scale))


def _sampled(classes: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the layout as its points were sampled: nearly always dense, seldom as single squares."""
    if rng.random() >= SPARSE_SHARE:
        return classes
    size = classes.shape[0]
    square = max(2, SQUARE * size // 512)
    sparse = np.full_like(classes, LayoutClass.BACKGROUND)
    inside = classes != LayoutClass.BACKGROUND
    edges = inside.copy()
    edges[2:-2, 2:-2] &= ~(
        (classes[:-4, 2:-2] == classes[2:-2, 2:-2])
        & (classes[4:, 2:-2] == classes[2:-2, 2:-2])
        & (classes[2:-2, :-4] == classes[2:-2, 2:-2])
        & (classes[2:-2, 4:] == classes[2:-2, 2:-2])
    )
    for places, per_square in ((np.flatnonzero(edges), rng.uniform(12, 40)), (np.flatnonzero(inside), 350.0)):
        count = min(2500, int(len(places) / per_square))
        for place in rng.choice(places, size=count, replace=False):
            y, x = divmod(int(place), size)
            sparse[y : y + square, x : x + square] = classes[y, x]
    return sparse
