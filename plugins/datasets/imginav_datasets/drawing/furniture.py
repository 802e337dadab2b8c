"""Furniture by the kind of room, in metres."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from attrs import define, field

from imginav_datasets.classes import LayoutClass
from imginav_datasets.drawing.pen import Brush, Frame, Polygon
from imginav_datasets.drawing.walls import Room

BED, CABINET, CHAIR, LIGHTING = LayoutClass.BED, LayoutClass.CABINET, LayoutClass.CHAIR, LayoutClass.LIGHTING
OTHERS, STOOL, SOFA, TABLE = LayoutClass.OTHERS, LayoutClass.STOOL, LayoutClass.SOFA, LayoutClass.TABLE

Box = tuple[float, float, float, float]  # left, top, right, bottom

TOLERANCE = 0.05
"""How far furniture may reach into a wall, in metres."""


@define
class Furnisher:
    """Furnishes one room: each of its four walls takes one group of furniture."""

    brush: Brush
    rng: np.random.Generator
    room: Room  # the space between the inner sides of its walls
    scale: float  # pixels per metre
    free: list[int] = field(init=False)  # walls that are not taken: top, right, bottom, left
    _taken: list[Box] = field(factory=list)  # around the pieces of finished groups
    _group: list[Box] = field(factory=list)  # around those of the group that is being placed

    def __attrs_post_init__(self) -> None:
        self.free = [int(side) for side in self.rng.permutation(4)]

    @property
    def metres(self) -> tuple[float, float]:
        """Width and height of the room."""
        return self.room.width / self.scale, self.room.height / self.scale

    def along_wall(self, width: float) -> Frame | None:
        """Return a frame centred at a place on a free wall, or none where `width` fits nowhere."""
        self._close_group()
        for side in self.free:
            length = self.metres[side % 2]
            if width <= length:
                self.free.remove(side)
                spare = (length - width) / 2
                return self._on(side, float(self.rng.uniform(-spare, spare) * (self.rng.random() < 0.6)))
        return None

    def in_the_middle(self) -> Frame:
        """Return a frame around a place near the middle of the room, upright or, at times, turned."""
        self._close_group()
        x = self.room.left + self.room.width * self.rng.uniform(0.38, 0.62)
        y = self.room.top + self.room.height * self.rng.uniform(0.38, 0.62)
        return Frame(x, y, self._turn(), self.scale)

    def fill(self, corners: Polygon, fill: LayoutClass) -> None:
        """Fill a piece of furniture, unless it would stand in a wall or in furniture of another group."""
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        box = (min(xs), min(ys), max(xs), max(ys))
        room, spare = self.room, TOLERANCE * self.scale
        inside = (
            box[0] > room.left - spare
            and box[1] > room.top - spare
            and box[2] < room.right + spare
            and box[3] < room.bottom + spare
        )
        if inside and not any(_overlap(box, other) for other in self._taken):
            self._group.append(box)
            self.brush.fill(corners, fill)

    def rectangle(self, frame: Frame, u: float, v: float, width: float, depth: float, fill: LayoutClass) -> None:
        """Fill a rectangle, or at times a hollow one."""
        self.fill(frame.rectangle(u, v, width, depth), fill)
        if fill is CABINET and self.rng.random() < 0.07:
            rim = 0.2 * depth
            inner = frame.rectangle(u + 0.1 * width, v + rim, 0.6 * width, depth - 2 * rim)
            self.fill(inner, LayoutClass.BACKGROUND)

    def blob(self, frame: Frame, u: float, v: float, size: float, fill: LayoutClass, rough: float = 0.12) -> None:
        """Fill something roundish."""
        wobble = self.rng.uniform(1 - rough, 1 + rough, 12)
        self.fill(frame.ellipse(u, v, size, size * self.rng.uniform(0.85, 1.15), wobble), fill)

    def lamp(self, frame: Frame, u: float, v: float) -> None:
        """Draw a lamp over what stands there, if the room reaches so far: a disc, a ring, a star or specks."""
        x, y = frame.at(u, v)
        if not (self.room.left < x < self.room.right and self.room.top < y < self.room.bottom):
            return
        size = float(self.rng.uniform(0.2, 0.6))
        shape = self.rng.integers(4)
        if shape == 0:
            self.brush.fill(frame.ellipse(u, v, size, size), LIGHTING)
        elif shape == 1:
            ring = frame.ellipse(u, v, 2 * size, 2 * size)
            for x, y in ring:
                self.brush.canvas.square((x, y), max(4.0, 0.1 * self.scale), LIGHTING)
        elif shape == 2:
            spikes = np.where(np.arange(12) % 2, 0.45, 1.2) * self.rng.uniform(0.8, 1.2, 12)
            self.brush.fill(frame.ellipse(u, v, 1.4 * size, 1.4 * size, spikes), LIGHTING)
        else:
            for _ in range(int(self.rng.integers(3, 9))):
                du, dv = self.rng.normal(0, size / 2, 2)
                self.brush.canvas.square(frame.at(u + du, v + dv), self.rng.uniform(4, 9), LIGHTING)

    def _close_group(self) -> None:
        self._taken += self._group
        self._group = []

    def _on(self, side: int, u: float) -> Frame:
        """Return a frame on a wall; its v runs into the room."""
        room = self.room
        middle_x, middle_y = (room.left + room.right) / 2, (room.top + room.bottom) / 2
        x, y = [(middle_x, room.top), (room.right, middle_y), (middle_x, room.bottom), (room.left, middle_y)][side]
        return Frame(x, y, side * math.pi / 2, self.scale).moved(u, 0.0)

    def _turn(self) -> float:
        quarter = math.pi / 2 * float(self.rng.integers(4))
        return quarter + (float(self.rng.uniform(-0.8, 0.8)) if self.rng.random() < 0.12 else 0.0)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def bedroom(f: Furnisher) -> None:
    """A bed with night stands, a wardrobe, perhaps a desk."""
    width, length = f.rng.uniform(1.1, 2.0), f.rng.uniform(1.9, 2.2)
    stand = f.rng.uniform(0.35, 0.6)
    if (frame := f.along_wall(width + 2 * stand)) or (frame := f.along_wall(width)):
        for u in (-(width + stand) / 2, (width + stand) / 2):
            if f.rng.random() < 0.75:
                f.rectangle(frame, u, 0.0, stand, f.rng.uniform(0.35, 0.5), CABINET)
                if f.rng.random() < 0.2:
                    f.lamp(frame, u, 0.25)
        f.rectangle(frame, 0.0, 0.0, width, length, BED)
        if f.rng.random() < 0.35:
            f.lamp(frame, f.rng.uniform(-0.3, 0.3), length / 2)
        if f.rng.random() < 0.2:
            f.rectangle(frame, 0.0, length + 0.05, width * 0.8, 0.4, STOOL)
    shelf(f)
    if f.rng.random() < 0.35:
        desk(f)
    if f.rng.random() < 0.15:
        f.blob(f.in_the_middle(), 1.2, 1.0, 0.8, SOFA)


def living(f: Furnisher) -> None:
    """A sofa with a low table, armchairs, a long cabinet opposite."""
    width, depth = f.rng.uniform(1.8, 3.0), f.rng.uniform(0.8, 1.0)
    if frame := f.along_wall(width):
        f.rectangle(frame, 0.0, 0.0, width, depth, SOFA)
        if f.rng.random() < 0.4:
            side = 1 if f.rng.random() < 0.5 else -1
            f.rectangle(frame, side * (width - depth) / 2, depth * 0.9, depth, f.rng.uniform(0.7, 1.3), SOFA)
        low = CABINET if f.rng.random() < 0.65 else TABLE
        gap = depth + f.rng.uniform(0.35, 0.6)
        if f.rng.random() < 0.4:
            f.fill(frame.ellipse(0.0, gap + 0.35, f.rng.uniform(0.7, 1.2), 0.7), low)
        else:
            f.rectangle(frame, 0.0, gap, f.rng.uniform(0.8, 1.4), f.rng.uniform(0.5, 0.8), low)
        for side in (-1, 1):
            if f.rng.random() < 0.35:
                f.blob(frame, side * (width / 2 + 0.6), gap + 0.6, f.rng.uniform(0.7, 0.9), SOFA)
            if f.rng.random() < 0.3:
                f.rectangle(frame, side * (width / 2 + 0.3), 0.05, 0.45, 0.45, CABINET)
        if f.rng.random() < 0.4:
            f.lamp(frame, 0.0, gap + 0.35)
        if f.rng.random() < 0.25:
            f.blob(frame, f.rng.uniform(-1.2, 1.2), gap + 1.2, 0.45, STOOL)
    shelf(f)
    if f.rng.random() < 0.2:
        f.rectangle(f.in_the_middle(), 1.2, 1.0, 0.6, 0.5, OTHERS)


def dining(f: Furnisher) -> None:
    """A table with chairs around it, a lamp above."""
    frame = f.in_the_middle()
    chair = f.rng.uniform(0.38, 0.5)
    if f.rng.random() < 0.35:
        size = f.rng.uniform(0.8, 1.4)
        count = int(f.rng.integers(3, 7))
        for seat in range(count):
            turned = frame.moved(0.0, 0.0, 2 * math.pi * seat / count)
            f.blob(turned, size / 2 + chair * 0.35, 0.0, chair, CHAIR)
        f.fill(frame.ellipse(0.0, 0.0, size, size), TABLE)
    else:
        width, depth = f.rng.uniform(1.0, 2.0), f.rng.uniform(0.7, 1.0)
        per_side = max(1, int(width / 0.65))
        for seat in range(per_side):
            u = width * ((seat + 0.5) / per_side - 0.5)
            for v in (-depth / 2 - chair * 0.3, depth / 2 + chair * 0.3):
                if f.rng.random() < 0.92:
                    f.blob(frame, u, v, chair * f.rng.uniform(0.95, 1.1), CHAIR)
        if f.rng.random() < 0.3:
            for u in (-width / 2 - chair * 0.3, width / 2 + chair * 0.3):
                f.blob(frame, u, 0.0, chair, CHAIR)
        f.rectangle(frame, 0.0, -depth / 2, width, depth, TABLE)
    if f.rng.random() < 0.6:
        f.lamp(frame, 0.0, 0.0)
    shelf(f)


def kitchen(f: Furnisher) -> None:
    """Long cabinets along two walls."""
    for _ in range(2):
        length = f.rng.uniform(0.5, 0.95) * max(f.metres)
        if frame := f.along_wall(min(length, min(f.metres))):
            f.rectangle(frame, 0.0, 0.0, min(length, min(f.metres)), f.rng.uniform(0.55, 0.7), CABINET)
            if f.rng.random() < 0.35:
                f.rectangle(frame, f.rng.uniform(-0.4, 0.4), 0.1, 0.5, 0.4, OTHERS)
    if f.rng.random() < 0.3:
        f.blob(f.in_the_middle(), 0.0, 0.0, 0.4, STOOL)


def study(f: Furnisher) -> None:
    """A desk with a chair, and shelves."""
    desk(f)
    shelf(f)
    shelf(f)
    if f.rng.random() < 0.3:
        f.blob(f.in_the_middle(), 0.0, 0.3, 0.85, SOFA)


def bath(f: Furnisher) -> None:
    """Small pieces along the walls."""
    for fill in (CABINET, OTHERS, STOOL):
        width = f.rng.uniform(0.35, 0.8)
        if f.rng.random() < 0.7 and (frame := f.along_wall(width)):
            f.rectangle(frame, 0.0, 0.0, width, f.rng.uniform(0.35, 0.55), fill)


def hall(f: Furnisher) -> None:
    """Nothing, or a narrow cabinet and a stool."""
    if f.rng.random() < 0.5:
        shelf(f)
    if f.rng.random() < 0.25:
        f.blob(f.in_the_middle(), 0.0, 0.0, 0.4, STOOL)


def desk(f: Furnisher) -> None:
    """A desk against a wall, its chair before it."""
    width, depth = f.rng.uniform(0.9, 1.6), f.rng.uniform(0.5, 0.7)
    if frame := f.along_wall(width):
        f.rectangle(frame, 0.0, 0.0, width, depth, TABLE if f.rng.random() < 0.7 else CABINET)
        f.blob(frame, f.rng.uniform(-0.2, 0.2), depth + 0.2, f.rng.uniform(0.42, 0.55), CHAIR)
        if f.rng.random() < 0.4:
            f.lamp(frame, -width / 3, depth / 2)
        for _ in range(int(f.rng.integers(0, 4))):
            place = frame.at(f.rng.uniform(-width / 2, width / 2), f.rng.uniform(0.0, depth))
            f.brush.canvas.square(place, f.rng.uniform(4, 8), OTHERS)


def shelf(f: Furnisher) -> None:
    """A wardrobe, a shelf or a sideboard: long and shallow."""
    width = f.rng.uniform(0.8, 2.4)
    if frame := f.along_wall(min(width, 0.9 * min(f.metres))):
        f.rectangle(frame, 0.0, 0.0, min(width, 0.9 * min(f.metres)), f.rng.uniform(0.3, 0.6), CABINET)


ROOMS: dict[Callable[[Furnisher], None], float] = {
    bedroom: 0.34,
    living: 0.28,
    dining: 0.16,
    kitchen: 0.07,
    study: 0.09,
    bath: 0.04,
    hall: 0.02,
}
"""The kinds of a room, each with its share."""
