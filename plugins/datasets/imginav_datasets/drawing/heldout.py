"""A second style of layouts, drawn by other means than the first: to measure on what no model was trained on.

It shares the canvas and the classes with the embedded style and nothing else. Rooms are regions of a grid: the cells of
scattered points, heaps of slanting rectangles, lobes or what grew from seeds; walls are the borders of the regions.
Furniture is any shape of any class at any place and angle. Nothing here may be tuned to what a model does well.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from imginav_datasets.classes import LayoutClass
from imginav_datasets.drawing.pen import Canvas, Point

Classes = NDArray[np.uint8]
Regions = NDArray[np.int8]  # (n, n), the number of the room at each place of a grid, 0 for none
Mask = NDArray[np.bool_]
Shape = Callable[[Canvas, np.random.Generator, Point, float, LayoutClass], None]

BACKGROUND, WALL = LayoutClass.BACKGROUND, LayoutClass.WALL
FURNITURE = tuple(c for c in LayoutClass if c not in (WALL, BACKGROUND))

STEP = 2
"""Side of the squares of the grid in a picture of 512 pixels, in pixels: walls have steps of this size."""

MOST_PIECES = 30
"""In a scene; a room has a third of them at most."""


def draw_held_out_room(rng: np.random.Generator, size: int = 512) -> Classes:
    """Return one space with a few pieces in it, as class indices (size, size)."""
    n = _grid(size)
    plan = (_lobes, _heap, _cells)[rng.integers(3)]
    regions = plan(rng, n, rooms=1, share=float(rng.uniform(0.35, 1.3)))
    return _drawn(rng, size, regions, pieces=int(rng.integers(0, MOST_PIECES // 3)), largest=0.6)


def draw_held_out_scene(rng: np.random.Generator, size: int = 512) -> Classes:
    """Return several spaces that touch each other, as class indices (size, size)."""
    n = _grid(size)
    plan = (_grown, _heap, _cells)[rng.integers(3)]
    regions = plan(rng, n, rooms=int(rng.integers(3, 13)), share=float(rng.uniform(0.4, 1.15)))
    return _drawn(rng, size, regions, pieces=int(rng.integers(2, MOST_PIECES)), largest=0.28)


def _grid(size: int) -> int:
    return math.ceil(size / max(1, round(STEP * size / 512)))


def _drawn(rng: np.random.Generator, size: int, regions: Regions, pieces: int, largest: float) -> Classes:
    """Return the layout of a plan, with so many pieces of at most that share of the picture's side."""
    n = regions.shape[0]
    walls = _walls(rng, regions)
    canvas = Canvas(size)
    free = np.flatnonzero(regions)
    classes = rng.dirichlet(np.full(len(FURNITURE), 0.6)).cumsum()
    smallest = float(rng.uniform(0.01, 0.3)) * largest
    extent = math.sqrt(max(1, len(free))) / n  # of the plan, as a share of the picture's side
    for place in rng.choice(free, pieces) if len(free) else ():
        y, x = divmod(int(place), n)
        fill = FURNITURE[min(len(FURNITURE) - 1, int(np.searchsorted(classes, rng.random())))]
        length = size * extent * math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        SHAPES[rng.integers(len(SHAPES))](canvas, rng, (x * size / n, y * size / n), length, fill)
    furniture = canvas.classes()
    enlarged = _enlarged(walls, size)
    covered = enlarged if rng.random() < 0.4 else enlarged & (furniture == BACKGROUND)
    furniture[covered] = WALL
    return _worn(rng, furniture)


def _cells(rng: np.random.Generator, n: int, rooms: int, share: float) -> Regions:
    """Return the cells around scattered points, by one of several distances; those at the rim are no rooms."""
    middle = 0.5 + (1 - share) * rng.uniform(-0.4, 0.4, 2)
    inner = middle + share * rng.uniform(-0.3, 0.3, (rooms, 2))
    turns = np.arange(9) * (2 * math.pi / 9) + rng.uniform(0, 0.6, 9)
    rim = middle + share * rng.uniform(0.55, 0.75, (9, 1)) * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    axis = (np.arange(n, dtype=np.float32) + 0.5) / n
    norm = rng.integers(3)
    nearest = np.full((n, n), np.inf, dtype=np.float32)
    regions = np.zeros((n, n), dtype=np.int8)
    for number, (x, y) in enumerate([*rim.tolist(), *inner.tolist()]):
        across, down = np.abs(axis - np.float32(x)), np.abs(axis - np.float32(y))[:, None]
        distance = across + down if norm == 0 else np.maximum(across, down) if norm == 1 else across**2 + down**2
        closer = distance < nearest
        nearest = np.where(closer, distance, nearest)
        regions[closer] = max(0, number - len(rim) + 1)
    return regions


def _heap(rng: np.random.Generator, n: int, rooms: int, share: float) -> Regions:
    """Return rectangles at slants, the later ones over the earlier; a single room is a union of a few."""
    regions = np.zeros((n, n), dtype=np.int8)
    slant, spread = rng.uniform(0, math.pi / 2), 0.15 if rng.random() < 0.6 else 0.0
    middle = 0.5 + (1 - share) * rng.uniform(-0.35, 0.35, 2)
    axis = (np.arange(n, dtype=np.float32) + 0.5) / n
    parts = int(rng.integers(1, 4)) if rooms == 1 else rooms
    for number in range(parts):
        x, y = middle + (0.0 if number == 0 else share * rng.uniform(-0.3, 0.3, 2))
        turn = slant + spread * rng.normal()
        width, height = share * rng.uniform(0.2, 0.75 if rooms == 1 else 0.5, 2)
        cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
        across, down = axis - np.float32(x), (axis - np.float32(y))[:, None]
        inside = (np.abs(across * cos + down * sin) < width / 2) & (np.abs(down * cos - across * sin) < height / 2)
        regions[inside] = 1 if rooms == 1 else number + 1
    return regions


def _lobes(rng: np.random.Generator, n: int, rooms: int, share: float) -> Regions:
    """Return one region with a wavy outline around a place."""
    del rooms  # it is always one
    middle = 0.5 + (1 - share) * rng.uniform(-0.4, 0.4, 2)
    axis = (np.arange(n, dtype=np.float32) + 0.5) / n
    across, down = axis - np.float32(middle[0]), (axis - np.float32(middle[1]))[:, None]
    turns = np.linspace(-math.pi, math.pi, 73)
    radius = np.full(73, 0.36 * share)
    for waves in (1, 2, 3, 5):
        radius *= 1 + rng.uniform(0.0, 0.5 / waves) * np.sin(waves * turns + rng.uniform(0, 2 * math.pi))
    sector = ((np.arctan2(down, across) + np.float32(math.pi)) * np.float32(72 / (2 * math.pi))).astype(np.int8)
    reach = radius[np.clip(sector, 0, 72)].astype(np.float32)
    return (across**2 + down**2 < reach**2).astype(np.int8)


def _grown(rng: np.random.Generator, n: int, rooms: int, share: float) -> Regions:
    """Return what grew from seeds on a coarse grid, square by square."""
    side, share = int(rng.integers(9, 18)), min(1.0, share)
    coarse = np.zeros((side, side), dtype=np.int8)
    left, top = (rng.uniform(0, 1 - share, 2) * side).astype(int).tolist()
    right, bottom = left + math.ceil(share * side), top + math.ceil(share * side)
    seeds = rng.integers((left, top), (right, bottom), (rooms, 2)).tolist()
    rim = [(x, y, number + 1) for number, (x, y) in enumerate(seeds)]
    for pick in rng.random(int(rng.uniform(1.5, 5.0) * (right - left) * (bottom - top))).tolist():
        if not rim:
            break
        x, y, number = rim.pop(int(pick * len(rim)))
        if left <= x < min(right, side) and top <= y < min(bottom, side) and not coarse[y, x]:
            coarse[y, x] = number
            rim += [(x + 1, y, number), (x - 1, y, number), (x, y + 1, number), (x, y - 1, number)]
    places = np.arange(n) * side // n
    return coarse[places][:, places]


def _walls(rng: np.random.Generator, regions: Regions) -> Mask:
    """Return where walls are: along the borders of the regions, one line or two, with parts missing."""
    n = regions.shape[0]
    borders = np.zeros(regions.shape, dtype=np.bool_)
    borders[:, 1:] = regions[:, 1:] != regions[:, :-1]
    borders[1:] |= regions[1:] != regions[:-1]
    unit = n * STEP / 512
    stroke = max(1, round(float(rng.uniform(3, 12)) * unit / STEP))
    if rng.random() < 0.5:
        walls = _thickened(borders, stroke)
    else:
        gap = max(1, round(float(rng.uniform(2, 14)) * unit / STEP))
        walls = _thickened(borders, 2 * stroke + gap) & ~_thickened(borders, gap)
    for _ in range(int(rng.integers(0, 9))):
        (x, y), (width, height) = rng.uniform(0, n, 2), n * np.exp(rng.uniform(-4.0, -1.6, 2))
        walls[int(y) : int(y + height), int(x) : int(x + width)] = False
    if rng.random() < 0.1:  # a room that is all ceiling
        walls |= regions == rng.integers(1, 4)
    return walls


def _thickened(mask: Mask, width: int) -> Mask:
    """Return the mask grown to lines of about that width."""
    for turned in (False, True):
        grown, reach = (mask.T if turned else mask).copy(), 1
        while reach < width:  # doubling takes fewer steps than one line after the other
            step = min(reach, width - reach)
            grown[step:] |= grown[:-step]
            reach += step
        back = width // 2
        if back:
            grown[:-back] = grown[back:]
            grown[-back:] = False
        mask = grown.T if turned else grown
    return mask


def _enlarged(mask: Mask, size: int) -> Mask:
    step = math.ceil(size / mask.shape[0])
    return mask.repeat(step, axis=0).repeat(step, axis=1)[:size, :size]


def _worn(rng: np.random.Generator, classes: Classes) -> Classes:
    """Return the layout as it came through: whole, with rows out of line, with holes, or with few places kept."""
    kind = rng.random()
    size = classes.shape[0]
    grain = max(1, round(float(rng.uniform(2, 7)) * size / 512))
    n = math.ceil(size / grain)
    if kind < 0.3:
        shift = np.repeat(rng.integers(-grain, grain + 1, n), grain)[:size, None]
        columns = np.clip(np.arange(size) + shift, 0, size - 1)
        return np.take_along_axis(classes, columns, axis=1)
    if kind < 0.5:
        lost = rng.random((n, n), dtype=np.float32) < (
            rng.uniform(0.01, 0.2) if kind < 0.43 else rng.uniform(0.6, 0.93)
        )
        return np.where(_enlarged(lost, size), np.uint8(BACKGROUND), classes)
    return classes


def _outline(rng: np.random.Generator, at: Point, length: float, corners: int, rough: float) -> list[Point]:
    """Return a closed outline around a place, longer than it is wide, at any angle."""
    x, y = at
    turn, narrow = float(rng.uniform(0, math.pi)), float(rng.uniform(0.25, 1.0))
    turns = 2 * math.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
    radius = length / 2 * rng.uniform(1 - rough, 1 + rough, corners)
    u, v = radius * np.cos(turns), narrow * radius * np.sin(turns)
    cos, sin = math.cos(turn), math.sin(turn)
    return list(zip((x + u * cos - v * sin).tolist(), (y + u * sin + v * cos).tolist(), strict=True))


def _polygon(canvas: Canvas, rng: np.random.Generator, at: Point, length: float, fill: LayoutClass) -> None:
    canvas.polygon(_outline(rng, at, length, int(rng.integers(3, 8)), rough=0.2), fill)


def _ragged(canvas: Canvas, rng: np.random.Generator, at: Point, length: float, fill: LayoutClass) -> None:
    canvas.polygon(_outline(rng, at, length, int(rng.integers(20, 60)), rough=float(rng.uniform(0.03, 0.4))), fill)


def _bar(canvas: Canvas, rng: np.random.Generator, at: Point, length: float, fill: LayoutClass) -> None:
    turn = float(rng.uniform(0, math.pi))
    end = (at[0] + length * math.cos(turn), at[1] + length * math.sin(turn))
    canvas.line([at, end], length * rng.uniform(0.1, 0.9), fill)


def _discs(canvas: Canvas, rng: np.random.Generator, at: Point, length: float, fill: LayoutClass) -> None:
    for dx, dy in rng.normal(0, length / 4, (int(rng.integers(1, 6)), 2)).tolist():
        canvas.polygon(_outline(rng, (at[0] + dx, at[1] + dy), length * rng.uniform(0.3, 0.9), 18, rough=0.02), fill)


def _scribble(canvas: Canvas, rng: np.random.Generator, at: Point, length: float, fill: LayoutClass) -> None:
    steps = rng.normal(0, length / 4, (int(rng.integers(4, 14)), 2)).cumsum(axis=0) + at
    canvas.line([(x, y) for x, y in steps.tolist()], rng.uniform(2, 8) * canvas.unit, fill)


def _swarm(canvas: Canvas, rng: np.random.Generator, at: Point, length: float, fill: LayoutClass) -> None:
    places = rng.normal(0, length / 3, (int(rng.integers(4, 40)), 2)) + at
    canvas.squares([(x, y) for x, y in places.tolist()], rng.uniform(2, 9) * canvas.unit, fill)


SHAPES: tuple[Shape, ...] = (_polygon, _polygon, _ragged, _ragged, _bar, _bar, _discs, _scribble, _swarm)
"""The shapes of pieces, each as often as it is named."""
