"""Walls: one line or two with a gap between them, straight, slanting or round, with doors, windows and breaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
from attrs import frozen

from imginav_datasets.classes import LayoutClass
from imginav_datasets.drawing.pen import Canvas, Point

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

    @property
    def middle(self) -> Point:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

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

    def at(self, along: float, aside: float = 0.0) -> Point:
        """Return a point so far along the wall and so far to a side of it."""
        return (self.x0 + along, self.y0 + aside) if self.horizontal else (self.x0 + aside, self.y0 + along)

    def bounds(self, room: Room) -> bool:
        """Tell whether a room is on one of the sides of this wall."""
        if self.horizontal:
            return self.y0 in (room.top, room.bottom) and room.left <= self.x0 and self.x1 <= room.right
        return self.x0 in (room.left, room.right) and room.top <= self.y0 and self.y1 <= room.bottom


@frozen
class WallStyle:
    """How the walls of a layout look, in pixels."""

    thickness: float  # from one outside to the other
    stroke: float  # of each of the two lines; a wall no thicker than both is a single line

    @property
    def inner(self) -> float:
        """Half of the gap between the lines; 0 for a single line."""
        return max(0.0, self.thickness / 2 - self.stroke)


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


def doors_of(rng: np.random.Generator, rooms: Sequence[Room], walls: Sequence[Wall]) -> set[int]:
    """Return the numbers of the walls with a door, of which each room has one at least."""
    doors = {number for number, wall in enumerate(walls) if rng.random() < (0.12 if wall.outer else 0.6)}
    for room in rooms:
        around = [number for number, wall in enumerate(walls) if wall.bounds(room)]
        if not doors.intersection(around):
            inner = [number for number in around if not walls[number].outer]
            doors.add(max(inner or around, key=lambda number: walls[number].length))
    return doors


def draw_walls(canvas: Canvas, walls: Iterable[Wall], style: WallStyle) -> None:
    """Draw walls, double lines of which run into each other at corners."""
    walls = list(walls)
    half, inner = style.thickness / 2, style.inner
    for wall in walls:
        canvas.box(*wall.box(-half, wall.length + half, half), WALL)
    if inner:
        for wall in walls:
            canvas.box(*wall.box(-inner, wall.length + inner, inner), BACKGROUND)


def draw_chamfered(canvas: Canvas, room: Room, style: WallStyle, sizes: Sequence[float]) -> None:
    """Draw the walls around a room with slanting corners, as far along both walls as `sizes` says for each corner."""

    def outline(grow: float) -> list[Point]:
        left, top, right, bottom = room.left - grow, room.top - grow, room.right + grow, room.bottom + grow
        # Parallel lines around a slant of 45 degrees meet the sides closer to the corner by this share.
        a, b, c, d = (max(0.0, size + grow * (2 - math.sqrt(2))) for size in sizes)
        return [
            *((left, top + a), (left + a, top), (right - b, top), (right, top + b)),
            *((right, bottom - c), (right - c, bottom), (left + d, bottom), (left, bottom - d)),
        ]

    _rings(canvas, style, outline)


def draw_round(canvas: Canvas, room: Room, style: WallStyle) -> None:
    """Draw the round wall of a room."""
    x, y = room.middle

    def outline(grow: float) -> list[Point]:
        turns = (2 * math.pi * corner / 48 for corner in range(48))
        return [
            (x + (room.width / 2 + grow) * math.cos(turn), y + (room.height / 2 + grow) * math.sin(turn))
            for turn in turns
        ]

    _rings(canvas, style, outline)


def _rings(canvas: Canvas, style: WallStyle, outline: Callable[[float], list[Point]]) -> None:
    half, inner = style.thickness / 2, style.inner
    gap = [(inner, BACKGROUND), (-inner, WALL)] if inner else []
    rings = [(half, WALL), *gap, (-half, BACKGROUND)]
    for grow, fill in rings:
        canvas.polygon(outline(grow - 0.5), fill)  # a polygon's own edges are filled too, half a pixel on each side


def open_door(canvas: Canvas, wall: Wall, start: float, end: float, style: WallStyle, *, closed: bool = True) -> None:
    """Cut a doorway through a wall, and close the ends of its double line."""
    half = style.thickness / 2
    canvas.box(*wall.box(start, end, half + 1), BACKGROUND)
    if closed:
        canvas.box(*wall.box(start - style.stroke, start, half), WALL)
        canvas.box(*wall.box(end, end + style.stroke, half), WALL)


def open_sector(canvas: Canvas, room: Room, angle: float, width: float) -> None:
    """Take a part out of the walls around an unfurnished room, seen from its middle at an angle, in radians."""
    x, y = room.middle
    far = room.width + room.height
    ends = [(x + far * math.cos(turn), y + far * math.sin(turn)) for turn in (angle - width / 2, angle + width / 2)]
    canvas.polygon([(x, y), *ends], BACKGROUND)


def fill_window(canvas: Canvas, wall: Wall, start: float, end: float, style: WallStyle) -> None:
    """Fill the double line, as a window does."""
    canvas.box(*wall.box(start, end, style.thickness / 2), WALL)


def break_wall(canvas: Canvas, wall: Wall, style: WallStyle, rng: np.random.Generator) -> None:
    """Take out stretches of a wall, or all of it, as where nothing was sampled."""
    half = style.thickness / 2 + 1
    if rng.random() < 0.25:
        inset = style.thickness / 2
        canvas.box(*wall.box(inset, wall.length - inset, half), BACKGROUND)
        return
    for _ in range(int(rng.integers(1, 4))):
        length = rng.uniform(0.05, 0.45) * wall.length
        start = rng.uniform(0, wall.length - length)
        canvas.box(*wall.box(start, start + length, half), BACKGROUND)
        end = rng.random()
        if end < 0.3:  # what is left ends in a blob
            for place in (start, start + length):
                canvas.square(wall.at(place), style.thickness * rng.uniform(0.6, 1.2), WALL)
        elif end < 0.55:  # only one of the two lines is missing
            side = style.thickness / 2 - style.stroke / 2
            canvas.line([wall.at(start, side), wall.at(start + length, side)], style.stroke, WALL)


def fray_wall(canvas: Canvas, wall: Wall, style: WallStyle, rng: np.random.Generator) -> None:
    """Let a stretch of a wall dissolve into squares."""
    length = rng.uniform(0.2, 1.0) * wall.length
    start = rng.uniform(0, wall.length - length)
    canvas.box(*wall.box(start, start + length, style.thickness / 2 + 1), BACKGROUND)
    side = style.stroke * rng.uniform(0.7, 1.1)
    sides = (-1, 1) if style.inner else (0,)
    for aside in sides:
        places = start + length * rng.random(int(length / max(1.0, side) * rng.uniform(0.4, 1.3)))
        offset = aside * (style.thickness - side) / 2
        canvas.squares([wall.at(place, offset) for place in places.tolist()], side, WALL)
