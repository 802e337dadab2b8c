"""Furniture by the kind of room, in metres."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from imginav_datasets.classes import LayoutClass
from imginav_datasets.drawing.furnisher import Furnisher
from imginav_datasets.drawing.pen import Frame

BED, CABINET, CHAIR = LayoutClass.BED, LayoutClass.CABINET, LayoutClass.CHAIR
OTHERS, STOOL, SOFA, TABLE = LayoutClass.OTHERS, LayoutClass.STOOL, LayoutClass.SOFA, LayoutClass.TABLE

Furnish = Callable[[Furnisher], None]


def bedroom(f: Furnisher) -> None:
    """A bed with night stands, a wardrobe, perhaps a desk."""
    least = min(f.metres)
    width, length = min(f.rng.uniform(0.9, 2.1), 0.9 * least), min(f.rng.uniform(1.8, 2.3), 0.96 * least)
    stand = f.rng.uniform(0.3, 0.7)
    if (frame := f.along_wall(width + 2 * stand)) or (frame := f.along_wall(width)):
        for u in (-(width + stand) / 2, (width + stand) / 2):
            if f.maybe(0.7):
                f.rectangle(frame, u, 0.0, stand, f.rng.uniform(0.3, 0.55), CABINET)
                if f.maybe(0.25):
                    f.lamp(frame, u, 0.25)
        f.rectangle(frame, 0.0, 0.0, width, length, BED)
        if f.maybe(0.15):  # the head of the bed bulges
            f.blob(frame, f.rng.uniform(-0.5, 0.5) * width, 0.15, 0.4, BED)
        if f.maybe(0.4):
            f.lamp(frame, f.rng.uniform(-0.3, 0.3), length * f.rng.uniform(0.3, 0.7))
        if f.maybe(0.25):
            f.rectangle(frame, 0.0, length + 0.05, width * f.rng.uniform(0.5, 0.95), 0.4, STOOL)
    shelf(f)
    if f.maybe(0.35):
        shelf(f)
    if f.maybe(0.35):
        desk(f)
    if f.maybe(0.15):
        f.blob(f.anywhere(), 0.0, 0.0, f.rng.uniform(0.6, 0.9), SOFA)


def living(f: Furnisher) -> None:
    """A sofa with a low table, armchairs, a long cabinet opposite."""
    width, depth = min(f.rng.uniform(1.4, 3.4), 0.95 * max(f.metres)), f.rng.uniform(0.7, 1.1)
    if frame := f.along_wall(width):
        if f.maybe(0.2):  # it stands away from the wall
            frame = frame.moved(0.0, f.rng.uniform(0.2, 0.8))
        f.rectangle(frame, 0.0, 0.0, width, depth, SOFA)
        if f.maybe(0.35):
            side = 1 if f.maybe(0.5) else -1
            f.rectangle(frame, side * (width - depth) / 2, depth * 0.9, depth, f.rng.uniform(0.7, 1.5), SOFA)
        _around_a_sofa(f, frame, width, depth + f.rng.uniform(0.25, 0.6))
    shelf(f)
    if f.maybe(0.25):
        f.rectangle(f.anywhere(), 0.0, 0.0, f.rng.uniform(0.3, 0.9), f.rng.uniform(0.3, 0.7), OTHERS)


def _around_a_sofa(f: Furnisher, frame: Frame, width: float, gap: float) -> None:
    low = CABINET if f.maybe(0.6) else TABLE
    if f.maybe(0.4):
        f.ellipse(frame, 0.0, gap + 0.35, f.rng.uniform(0.6, 1.3), f.rng.uniform(0.5, 0.9), low)
    else:
        f.rectangle(frame, 0.0, gap, f.rng.uniform(0.7, 1.5), f.rng.uniform(0.4, 0.8), low)
    for side in (-1, 1):
        if f.maybe(0.4):
            armchair = frame.moved(side * (width / 2 + f.rng.uniform(0.1, 0.7)), gap + 0.4, f.rng.uniform(-0.8, 0.8))
            if f.maybe(0.5):
                f.rectangle(armchair, 0.0, -0.4, f.rng.uniform(0.6, 0.9), f.rng.uniform(0.6, 0.9), SOFA)
            else:
                f.blob(armchair, 0.0, 0.0, f.rng.uniform(0.6, 0.9), SOFA)
        if f.maybe(0.3):
            f.rectangle(frame, side * (width / 2 + 0.3), 0.05, 0.45, f.rng.uniform(0.35, 0.5), CABINET)
            if f.maybe(0.3):
                f.lamp(frame, side * (width / 2 + 0.3), 0.3)
    if f.maybe(0.45):
        f.lamp(frame, f.rng.uniform(-0.3, 0.3), gap + 0.35)
    if f.maybe(0.3):
        f.blob(frame, f.rng.uniform(-1.2, 1.2), gap + f.rng.uniform(0.5, 1.3), f.rng.uniform(0.3, 0.6), STOOL)


def dining(f: Furnisher) -> None:
    """A table with chairs around it, a lamp above."""
    frame = f.in_the_middle()
    chair, seat = f.rng.uniform(0.35, 0.6), STOOL if f.maybe(0.12) else CHAIR
    tucked = f.rng.uniform(0.1, 0.6)  # how much of a chair is beside the table
    if f.maybe(0.35):
        size, count = f.rng.uniform(0.7, 1.5), int(f.rng.integers(2, 8))
        for place in range(count):
            turned = frame.moved(0.0, 0.0, 2 * math.pi * place / count)
            f.blob(turned, size / 2 + chair * tucked, 0.0, chair, seat)
        f.ellipse(frame, 0.0, 0.0, size, size * f.rng.uniform(0.85, 1.15), TABLE)
    else:
        width, depth = f.rng.uniform(0.8, 2.2), f.rng.uniform(0.6, 1.1)
        _rows_of_chairs(f, frame, width, depth / 2 + chair * tucked, chair, seat)
        if f.maybe(0.3):
            for u in (-width / 2 - chair * tucked, width / 2 + chair * tucked):
                f.blob(frame, u, 0.0, chair, seat)
        f.rectangle(frame, 0.0, -depth / 2, width, depth, TABLE)
    if f.maybe(0.6):
        for _ in range(int(f.rng.integers(1, 4))):
            f.lamp(frame, f.rng.normal(0.0, 0.2), f.rng.normal(0.0, 0.1))
    shelf(f)


def _rows_of_chairs(f: Furnisher, frame: Frame, width: float, away: float, chair: float, seat: LayoutClass) -> None:
    per_side = max(1, int(width / f.rng.uniform(0.5, 0.8)))
    for v in (-away, away):
        if f.maybe(0.15):  # chairs so close that they are one piece
            f.rectangle(frame, 0.0, v - chair / 2, width * f.rng.uniform(0.5, 0.95), chair, seat)
            continue
        for place in range(per_side):
            if f.maybe(0.9):
                u = width * ((place + 0.5) / per_side - 0.5)
                f.blob(frame, u, v, chair * f.rng.uniform(0.9, 1.15), seat)


def kitchen(f: Furnisher) -> None:
    """Long cabinets along one wall to three."""
    for _ in range(int(f.rng.integers(1, 4))):
        length = min(f.rng.uniform(0.5, 0.95) * max(f.metres), min(f.metres))
        if frame := f.along_wall(length):
            f.rectangle(frame, 0.0, 0.0, length, f.rng.uniform(0.5, 0.75), CABINET)
            if f.maybe(0.5):
                f.rectangle(frame, f.rng.uniform(-0.4, 0.4), 0.1, f.rng.uniform(0.3, 0.6), 0.4, OTHERS)
    if f.maybe(0.4):
        f.blob(f.anywhere(), 0.0, 0.0, f.rng.uniform(0.3, 0.5), STOOL)


def study(f: Furnisher) -> None:
    """A desk with a chair, and shelves."""
    desk(f)
    shelf(f)
    shelf(f)
    if f.maybe(0.35):
        f.blob(f.anywhere(), 0.0, 0.0, f.rng.uniform(0.6, 0.9), SOFA)


def bath(f: Furnisher) -> None:
    """Small pieces along the walls."""
    for fill in (CABINET, OTHERS, STOOL):
        width = f.rng.uniform(0.3, 0.9)
        if f.maybe(0.7) and (frame := f.along_wall(width)):
            f.rectangle(frame, 0.0, 0.0, width, f.rng.uniform(0.3, 0.6), fill)


def hall(f: Furnisher) -> None:
    """Nothing, or a narrow cabinet and a stool."""
    if f.maybe(0.5):
        shelf(f)
    if f.maybe(0.3):
        f.blob(f.anywhere(), 0.0, 0.0, 0.4, STOOL)
    if f.maybe(0.25):
        f.lamp(f.in_the_middle(), 0.0, 0.0)


def storage(f: Furnisher) -> None:
    """Boxes, shelves and odd pieces of every class, turned anyhow."""
    for _ in range(int(f.rng.integers(2, 8))):
        fill = LayoutClass(int(f.rng.choice([0, 1, 2, 4, 5, 6, 7], p=[0.06, 0.22, 0.1, 0.28, 0.14, 0.1, 0.1])))
        frame, size = f.anywhere(), f.rng.uniform(0.25, 1.3)
        if f.maybe(0.5):
            f.rectangle(frame, 0.0, 0.0, size, size * f.rng.uniform(0.3, 1.0), fill)
        else:
            f.blob(frame, 0.0, 0.0, size, fill, rough=f.rng.uniform(0.05, 0.45))
    if f.maybe(0.4):
        f.lamp(f.anywhere(), 0.0, 0.0)


def desk(f: Furnisher) -> None:
    """A desk against a wall, its chair before it."""
    width, depth = f.rng.uniform(0.7, 1.8), f.rng.uniform(0.4, 0.8)
    if frame := f.along_wall(width):
        f.rectangle(frame, 0.0, 0.0, width, depth, TABLE if f.maybe(0.7) else CABINET)
        f.blob(frame, f.rng.uniform(-0.3, 0.3), depth + f.rng.uniform(0.0, 0.4), f.rng.uniform(0.4, 0.65), CHAIR)
        if f.maybe(0.45):
            f.lamp(frame, -width / 3, depth / 2)
        for _ in range(int(f.rng.integers(0, 4))):
            place = frame.at(f.rng.uniform(-width / 2, width / 2), f.rng.uniform(0.0, depth))
            f.brush.canvas.square(place, f.rng.uniform(4, 10) * f.brush.canvas.unit, OTHERS)


def shelf(f: Furnisher) -> None:
    """A wardrobe, a shelf or a sideboard: long and shallow."""
    width = min(f.rng.uniform(0.6, 2.8), 0.95 * min(f.metres))
    if frame := f.along_wall(width):
        f.rectangle(frame, 0.0, 0.0, width, f.rng.uniform(0.2, 0.65), CABINET)
        if f.maybe(0.1):
            f.rectangle(frame, f.rng.uniform(-0.3, 0.3) * width, 0.05, 0.3, 0.3, OTHERS)


ROOMS: dict[Furnish, float] = {
    bedroom: 0.32,
    living: 0.26,
    dining: 0.14,
    kitchen: 0.07,
    study: 0.09,
    bath: 0.03,
    hall: 0.02,
    storage: 0.07,
}
"""The kinds of a room, each with its share."""


def some_kind(rng: np.random.Generator) -> Furnish:
    """Return a kind of room, each as often as its share says."""
    kinds, shares = list(ROOMS), np.cumsum(list(ROOMS.values()))
    return kinds[int(np.searchsorted(shares, rng.random() * shares[-1]))]
