"""Walls: two lines with a gap between them, doors, windows, breaks and slabs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from attrs import frozen

from imginav_datasets.classes import LayoutClass
from imginav_datasets.drawing.pen import Canvas

WALL = LayoutClass.WALL
BACKGROUND = LayoutClass.BACKGROUND


@frozen
class Room:
    """The space between the middle lines of its walls, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def shrunk(self, by: float) -> Room:
        """Return the room without a margin on each side."""
        return Room(self.left + by, self.top + by, self.right - by, self.bottom - by)


@frozen
class Wall:
    """A straight, upright wall along its middle line, in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float
    outer: bool  # whether there is a room on one side only

    @property
    def horizontal(self) -> bool:
        return self.y0 == self.y1

    @property
    def length(self) -> float:
        return abs(self.x1 - self.x0) + abs(self.y1 - self.y0)

    def box(self, start: float, end: float, half: float) -> tuple[float, float, float, float]:
        """Return the rectangle from `start` to `end` along the wall, `half` pixels to each side of it."""
        if self.horizontal:
            return self.x0 + start, self.y0 - half, self.x0 + end, self.y0 + half
        return self.x0 - half, self.y0 + start, self.x0 + half, self.y0 + end


@frozen
class WallStyle:
    """How the walls of a layout look, in pixels."""

    thickness: float  # from one outside to the other
    stroke: float  # of each of the two lines

    @property
    def inner(self) -> float:
        """Half of the gap between the lines."""
        return self.thickness / 2 - self.stroke


def walls_of(rooms: Sequence[Room]) -> list[Wall]:
    """Return the walls around rooms that touch each other, each once."""
    edges: dict[tuple[float, float, float, float], int] = {}
    xs = sorted({x for room in rooms for x in (room.left, room.right)})
    ys = sorted({y for room in rooms for y in (room.top, room.bottom)})
    for room in rooms:
        across = [x for x in xs if room.left <= x <= room.right]
        down = [y for y in ys if room.top <= y <= room.bottom]
        for a, b in pairwise(across):
            for y in (room.top, room.bottom):
                edges[a, y, b, y] = edges.get((a, y, b, y), 0) + 1
        for a, b in pairwise(down):
            for x in (room.left, room.right):
                edges[x, a, x, b] = edges.get((x, a, x, b), 0) + 1
    return [Wall(*edge, outer=count == 1) for edge, count in sorted(edges.items())]


def draw_walls(canvas: Canvas, walls: Iterable[Wall], style: WallStyle) -> None:
    """Draw walls as double lines that run into each other at corners."""
    walls = list(walls)
    half, inner = style.thickness / 2, style.inner
    for wall in walls:
        canvas.box(*wall.box(-half, wall.length + half, half), WALL)
    for wall in walls:
        canvas.box(*wall.box(-inner, wall.length + inner, inner), BACKGROUND)


def open_door(canvas: Canvas, wall: Wall, start: float, end: float, style: WallStyle) -> None:
    """Cut a doorway through a wall, and close the ends of its double line."""
    half = style.thickness / 2
    canvas.box(*wall.box(start, end, half + 1), BACKGROUND)
    canvas.box(*wall.box(start - style.stroke, start, half), WALL)
    canvas.box(*wall.box(end, end + style.stroke, half), WALL)


def fill_window(canvas: Canvas, wall: Wall, start: float, end: float, style: WallStyle) -> None:
    """Fill the double line, as a window does."""
    canvas.box(*wall.box(start, end, style.thickness / 2), WALL)


def break_wall(canvas: Canvas, wall: Wall, style: WallStyle, rng: np.random.Generator) -> None:
    """Take out a stretch of a wall, or all of it, as where nothing was sampled."""
    half = style.thickness / 2 + 1
    if rng.random() < 0.4:
        inset = style.thickness / 2
        canvas.box(*wall.box(inset, wall.length - inset, half), BACKGROUND)
        return
    length = rng.uniform(0.15, 0.6) * wall.length
    start = rng.uniform(0, wall.length - length)
    canvas.box(*wall.box(start, start + length, half), BACKGROUND)
    if rng.random() < 0.5:  # what is left ends in a blob
        for place in (start, start + length):
            x, y, *_ = wall.box(place, place, 0)
            canvas.square((x, y), style.thickness * rng.uniform(0.8, 1.2), WALL)


def draw_chamfer(canvas: Canvas, room: Room, style: WallStyle, size: float) -> None:
    """Replace the upper right corner of a room by a slanting wall."""
    half = style.thickness / 2 + 1
    corner = (room.right, room.top)
    canvas.box(corner[0] - size, corner[1] - half, corner[0] + half, corner[1] + half, BACKGROUND)
    canvas.box(corner[0] - half, corner[1] - half, corner[0] + half, corner[1] + size, BACKGROUND)
    start, end = (corner[0] - size, corner[1]), (corner[0], corner[1] + size)
    canvas.line(start, end, style.thickness, WALL)
    canvas.line(start, end, 2 * style.inner, BACKGROUND)
    for point in (start, end):
        canvas.square(point, style.thickness, WALL)
