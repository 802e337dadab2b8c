"""Places furniture in a room: along its walls or about its middle, and seldom where something stands already."""

from __future__ import annotations

import math

import numpy as np
from attrs import define, field

from imginav_datasets.classes import LayoutClass
from imginav_datasets.drawing.pen import Brush, Frame, Point, Polygon
from imginav_datasets.drawing.walls import Room

LIGHTING = LayoutClass.LIGHTING

TOLERANCE = 0.05
"""How far furniture may reach into a wall, in metres."""

NUDGE = 0.8
"""How far furniture that reaches further is moved at most, in metres."""


@define
class Furnisher:
    """Furnishes one room: each of its four walls takes one group of furniture. Lengths are in metres."""

    brush: Brush
    rng: np.random.Generator
    room: Room  # the space between the inner sides of its walls
    scale: float  # pixels per metre
    careless: bool = False  # whether furniture may stand in furniture of another group
    free: list[int] = field(init=False)  # walls that are not taken: top, right, bottom, left
    _taken: list[Polygon] = field(factory=list)  # the footprints of finished groups
    _group: list[Polygon] = field(factory=list)  # those of the group that is being placed

    def __attrs_post_init__(self) -> None:
        self.free = [int(side) for side in self.rng.permutation(4)]

    @property
    def metres(self) -> tuple[float, float]:
        """Width and height of the room."""
        return self.room.width / self.scale, self.room.height / self.scale

    def maybe(self, share: float) -> bool:
        """Tell whether something is so that is so in a share of all cases."""
        return bool(self.rng.random() < share)

    def along_wall(self, width: float) -> Frame | None:
        """Return a frame centred at a place on a free wall, or none where `width` fits nowhere."""
        self._close_group()
        for side in self.free:
            length = self.metres[side % 2]
            if width <= length:
                self.free.remove(side)
                spare = (length - width) / 2
                frame = self._on(side, float(self.rng.uniform(-spare, spare) * (self.rng.random() < 0.6)))
                if self.maybe(0.12):
                    return frame.moved(0.0, self.rng.uniform(0.0, 0.4), self.rng.uniform(-0.35, 0.35))
                return frame
        return None

    def in_the_middle(self) -> Frame:
        """Return a frame around a place near the middle of the room, upright or, at times, turned."""
        return self._about(0.38, 0.62, slanting=0.2)

    def anywhere(self) -> Frame:
        """Return a frame around any place in the room, often turned."""
        return self._about(0.1, 0.9, slanting=0.6)

    def fill(self, corners: Polygon, fill: LayoutClass, footprint: Polygon | None = None) -> Point | None:
        """Fill a piece of furniture, unless it would stand in the wall or in furniture of another group.

        `footprint` is a convex shape that stands for it, itself where that is left out. Returns by how much it was
        moved in order to stand within the walls, or none where it was left out.
        """
        shift = self._shift(corners)
        if shift is None:
            return None
        corners, footprint = _moved(corners, shift), _moved(footprint or corners, shift)
        if not self.careless and any(_overlap(footprint, other) for other in self._taken):
            return None
        self._group.append(footprint)
        self.brush.fill(corners, fill)
        return shift

    def rectangle(self, frame: Frame, u: float, v: float, width: float, depth: float, fill: LayoutClass) -> None:
        """Fill a rectangle, at times one with round corners or a hollow one."""
        footprint = frame.rectangle(u, v, width, depth)
        shift = self.fill(frame.rounded(u, v, width, depth) if self.maybe(0.12) else footprint, fill, footprint)
        if shift is not None and fill is LayoutClass.CABINET and self.maybe(0.12):
            rim = self.rng.uniform(0.12, 0.25) * depth
            inner = frame.rectangle(u + self.rng.uniform(-0.15, 0.15) * width, v + rim, 0.6 * width, depth - 2 * rim)
            self.brush.canvas.polygon(_moved(inner, shift), LayoutClass.BACKGROUND)

    def ellipse(self, frame: Frame, u: float, v: float, width: float, depth: float, fill: LayoutClass) -> None:
        """Fill an ellipse around (u, v)."""
        self.fill(
            frame.ellipse(u, v, width, depth), fill, frame.rectangle(u, v - 0.4 * depth, 0.8 * width, 0.8 * depth)
        )

    def blob(self, frame: Frame, u: float, v: float, size: float, fill: LayoutClass, rough: float = 0.12) -> None:
        """Fill something roundish."""
        wobble = self.rng.uniform(1 - rough, 1 + rough, int(self.rng.integers(7, 15)))
        depth = size * self.rng.uniform(0.8, 1.25)
        footprint = frame.rectangle(u, v - 0.4 * depth, 0.8 * size, 0.8 * depth)
        self.fill(frame.ellipse(u, v, size, depth, wobble), fill, footprint)

    def lamp(self, frame: Frame, u: float, v: float) -> None:
        """Draw a lamp over what stands there, if the room reaches so far: a disc, ring, star, cluster or specks."""
        x, y = frame.at(u, v)
        room, canvas = self.room, self.brush.canvas
        if not (room.left < x < room.right and room.top < y < room.bottom):
            return
        size = float(self.rng.uniform(0.15, 0.6))
        shape = self.rng.integers(5)
        if shape == 0:
            self.brush.fill(frame.ellipse(u, v, size, size), LIGHTING)
        elif shape == 1:
            ring = frame.ellipse(u, v, 1.8 * size, 1.8 * size)
            canvas.line([*ring, ring[0]], self.rng.uniform(3, 6) * canvas.unit, LIGHTING)
        elif shape == 2:
            spikes = np.where(np.arange(12) % 2, 0.45, 1.2) * self.rng.uniform(0.8, 1.2, 12)
            canvas.polygon(frame.ellipse(u, v, 1.4 * size, 1.4 * size, spikes), LIGHTING)
        elif shape == 3:
            for _ in range(int(self.rng.integers(3, 7))):
                du, dv = self.rng.normal(0, size / 3, 2)
                canvas.polygon(frame.ellipse(u + du, v + dv, 0.6 * size, 0.6 * size), LIGHTING)
        else:
            for du, dv in self.rng.normal(0, size / 2, (int(self.rng.integers(3, 9)), 2)).tolist():
                canvas.square(frame.at(u + du, v + dv), self.rng.uniform(4, 9) * canvas.unit, LIGHTING)

    def _close_group(self) -> None:
        self._taken += self._group
        self._group = []

    def _about(self, low: float, high: float, slanting: float) -> Frame:
        """Return a frame around a place within a part of the room, a share of all turned by any angle."""
        self._close_group()
        x = self.room.left + self.room.width * self.rng.uniform(low, high)
        y = self.room.top + self.room.height * self.rng.uniform(low, high)
        turn = math.pi / 2 * float(self.rng.integers(4))
        if self.maybe(slanting):
            turn += float(self.rng.uniform(-math.pi / 4, math.pi / 4))
        return Frame(x, y, turn, self.scale)

    def _on(self, side: int, u: float) -> Frame:
        """Return a frame on a wall; its v runs into the room."""
        room = self.room
        x, y = room.middle
        x, y = [(x, room.top), (room.right, y), (x, room.bottom), (room.left, y)][side]
        return Frame(x, y, side * math.pi / 2, self.scale).moved(u, 0.0)

    def _shift(self, corners: Polygon) -> Point | None:
        """Return by how much a piece must move to stand within the walls, or none where that is too far."""
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        room = self.room.shrunk(-TOLERANCE * self.scale)
        dx = max(room.left - min(xs), 0.0) or min(room.right - max(xs), 0.0)
        dy = max(room.top - min(ys), 0.0) or min(room.bottom - max(ys), 0.0)
        fits = max(xs) - min(xs) <= room.width and max(ys) - min(ys) <= room.height
        return (dx, dy) if fits and max(abs(dx), abs(dy)) <= NUDGE * self.scale else None


def _moved(corners: Polygon, by: Point) -> Polygon:
    return [(x + by[0], y + by[1]) for x, y in corners] if by != (0.0, 0.0) else corners


def _overlap(a: Polygon, b: Polygon) -> bool:
    """Tell whether two convex shapes overlap: no line along a side of one of them has them on its two sides."""
    return not any(_apart(a, b, i) for i in range(len(a))) and not any(_apart(b, a, i) for i in range(len(b)))


def _apart(a: Polygon, b: Polygon, side: int) -> bool:
    """Tell whether the shadows of two shapes on the normal of one of the sides of `a` are apart."""
    (x0, y0), (x1, y1) = a[side - 1], a[side]
    nx, ny = y0 - y1, x1 - x0
    first, second = [nx * x + ny * y for x, y in a], [nx * x + ny * y for x, y in b]
    return max(first) <= min(second) or max(second) <= min(first)
