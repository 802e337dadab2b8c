"""Whole layouts: where the walls stand, which rooms there are, how all of it is drawn."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imginav_datasets.classes import LayoutClass
from imginav_datasets.drawing.furnisher import Furnisher
from imginav_datasets.drawing.furniture import Furnish, bath, bedroom, dining, hall, living, some_kind
from imginav_datasets.drawing.pen import Brush, Canvas
from imginav_datasets.drawing.sampling import sample
from imginav_datasets.drawing.walls import (
    Room,
    Wall,
    WallStyle,
    break_wall,
    doors_of,
    draw_chamfered,
    draw_round,
    draw_walls,
    fill_window,
    fray_wall,
    open_door,
    open_sector,
    walls_of,
)

EMPTY_SHARE = 0.03
"""Of layouts without furniture."""

CEILING_SHARE = 0.03
"""Of single rooms most of whose floor is hidden by a slab, and all of the furniture with it."""

MARGIN = 0.02
"""Of the picture, on each side, that nearly all layouts leave free."""

SPECKS = {
    LayoutClass.OTHERS: 0.24,
    LayoutClass.LIGHTING: 0.22,
    LayoutClass.STOOL: 0.12,
    LayoutClass.CABINET: 0.1,
    LayoutClass.CHAIR: 0.1,
    LayoutClass.TABLE: 0.07,
    LayoutClass.SOFA: 0.05,
    LayoutClass.BED: 0.03,
    LayoutClass.WALL: 0.07,
}
"""The classes of tiny pieces, each with its share."""


def draw_room(rng: np.random.Generator, size: int = 512) -> NDArray[np.uint8]:
    """Return a single room, as class indices (size, size)."""
    canvas = Canvas(size, _turn(rng))
    room, scale = _space(rng, canvas, metres=(1.9, 5.2))
    style = _style(rng, canvas, narrow=False)
    shape = rng.random()
    if shape < 0.16:
        inside = _bevelled(canvas, room, style, rng, is_round=bool(shape < 0.04))
        rooms = [room]
    else:
        rooms = _l_shape(rng, room) if shape < 0.34 else [room]
        _straight(canvas, rooms, style, scale, rng)
        inside = rooms[0]
    if rng.random() < CEILING_SHARE:
        _ceiling(canvas, room, rng)
        return sample(canvas.classes(), rng)
    _slabs(canvas, rooms, rng, share=0.25)
    if rng.random() >= EMPTY_SHARE:
        furnish, brush = some_kind(rng), _brush(canvas, rng)
        _furnish(inside, style, scale, furnish, brush)
        if furnish is living and rng.random() < 0.3:
            _furnish(inside, style, scale, dining, brush)
        _specks(canvas, rooms, rng)
    return sample(canvas.classes(), rng)


def draw_scene(rng: np.random.Generator, size: int = 512) -> NDArray[np.uint8]:
    """Return a flat of several rooms, as class indices (size, size)."""
    canvas = Canvas(size, _turn(rng))
    outline, scale = _space(rng, canvas, metres=(5.5, 12.0))
    rooms = _partition(rng, outline, smallest=1.7 * scale, largest=float(rng.uniform(3.5, 6.0)) * scale)
    rooms = _without_corners(rng, rooms, outline)
    style = _style(rng, canvas, narrow=True)
    walls = walls_of(rooms)
    draw_walls(canvas, walls, style)
    doors = doors_of(rng, rooms, walls)
    broken = 0.08 if rng.random() < 0.8 else 0.4
    for number, wall in enumerate(walls):
        _finish(canvas, wall, style, scale, rng, door=number in doors, windows=0.4, broken=broken)
    _slabs(canvas, rooms, rng, share=0.15)
    if rng.random() >= EMPTY_SHARE:
        brush, furnished = _brush(canvas, rng), rng.uniform(0.6, 1.0)
        for room, furnish in zip(rooms, _uses(rng, rooms, scale), strict=True):
            if rng.random() < furnished:
                _furnish(room, style, scale, furnish, brush)
        _specks(canvas, rooms, rng)
    return sample(canvas.classes(), rng)


def _turn(rng: np.random.Generator) -> float:
    """Return by how much a whole layout is turned: most not at all, some a little, a few by any angle."""
    kind = rng.random()
    if kind < 0.78:
        return 0.0
    return math.radians(float(rng.uniform(-6, 6) if kind < 0.91 else rng.uniform(-45, 45)))


def _space(rng: np.random.Generator, canvas: Canvas, metres: tuple[float, float]) -> tuple[Room, float]:
    """Return a place in the picture for so many metres of length, and the pixels of a metre."""
    kind = rng.random()
    # Most of the picture's side as a rule, down to a quarter of it at times.
    share = (
        rng.uniform(0.78, 1.0) if kind < 0.76 else rng.uniform(0.45, 0.8) if kind < 0.92 else rng.uniform(0.25, 0.45)
    )
    sides = np.exp(rng.uniform(math.log(metres[0]), math.log(metres[1]), 2))
    cos, sin = abs(math.cos(canvas.turn)), abs(math.sin(canvas.turn))
    turned = np.array([sides[0] * cos + sides[1] * sin, sides[0] * sin + sides[1] * cos])  # what it takes up
    scale = float(canvas.size * share * (1 - 2 * MARGIN) / turned.max())
    if rng.random() < 0.06:  # cut off by the edges of the picture
        scale *= float(rng.uniform(1.05, 1.4))
    width, height = (sides * scale).tolist()
    spare = (canvas.size * (1 - 2 * MARGIN) - turned * scale) / 2
    place = rng.uniform(-1.0, 1.0, 2) * np.abs(spare)
    back_cos, back_sin = math.cos(-canvas.turn), math.sin(-canvas.turn)
    x = canvas.size / 2 + place[0] * back_cos - place[1] * back_sin
    y = canvas.size / 2 + place[0] * back_sin + place[1] * back_cos
    left, top = x - width / 2, y - height / 2
    return Room(*(float(round(v)) for v in (left, top, left + width, top + height))), scale


def _style(rng: np.random.Generator, canvas: Canvas, *, narrow: bool) -> WallStyle:
    stroke = rng.uniform(3, 9) if narrow else rng.uniform(3, 12)
    gap = rng.uniform(3, 9) if narrow else rng.uniform(4, 24)
    single = rng.random() < 0.18
    line, between = max(1, round(stroke * canvas.unit)), round(gap * canvas.unit)
    return WallStyle(thickness=float(line if single else 2 * line + between), stroke=float(line))


def _brush(canvas: Canvas, rng: np.random.Generator) -> Brush:
    unit = canvas.unit
    grain = rng.uniform(2, 7) * unit if rng.random() < 0.7 else 0.0
    wave = np.exp(rng.uniform(np.log(0.8), np.log(6.0))) * unit if rng.random() < 0.35 else 0.0
    holes = rng.uniform(2, 16) if rng.random() < 0.1 else 0.0
    cloud = rng.uniform(3, 8) * unit if rng.random() < 0.04 else 0.0
    return Brush(canvas, rng, grain=float(grain), holes=float(holes), wave=float(wave), cloud=float(cloud))


def _straight(canvas: Canvas, rooms: list[Room], style: WallStyle, scale: float, rng: np.random.Generator) -> None:
    """Draw the upright walls of a single room, and what is seen of its neighbours."""
    walls = walls_of(rooms)
    outer = [wall for wall in walls if wall.outer]
    stubs = _stubs(rng, rooms[0]) if rng.random() < 0.25 else []
    draw_walls(canvas, [*outer, *stubs], style)
    for wall in walls:
        if not wall.outer:  # an alcove is open to its room
            canvas.box(*wall.box(style.inner, wall.length - style.inner, style.thickness), LayoutClass.BACKGROUND)
    door = int(rng.integers(len(outer))) if rng.random() < 0.9 else -1
    broken = 0.15 if rng.random() < 0.75 else 0.6
    for number, wall in enumerate(outer):
        has_door = number == door or rng.random() < 0.12
        _finish(canvas, wall, style, scale, rng, door=has_door, windows=0.3, broken=broken)
    if rng.random() < 0.2:  # corners of which more was sampled than of the walls
        for wall in outer:
            if rng.random() < 0.5:
                canvas.square(wall.at(0.0), style.thickness * rng.uniform(1.0, 1.8), LayoutClass.WALL)


def _stubs(rng: np.random.Generator, room: Room) -> list[Wall]:
    """Return walls of neighbours: some of a room's walls go on beyond its corners."""
    stubs = []
    for _ in range(int(rng.integers(1, 4))):
        length = round(float(rng.uniform(0.08, 0.5)) * min(room.width, room.height))
        x, y = (room.left, room.right)[rng.integers(2)], (room.top, room.bottom)[rng.integers(2)]
        if rng.random() < 0.5:
            x0, x1 = (x - length, x) if x == room.left else (x, x + length)
            stubs.append(Wall(x0, y, x1, y, outer=True))
        else:
            y0, y1 = (y - length, y) if y == room.top else (y, y + length)
            stubs.append(Wall(x, y0, x, y1, outer=True))
    return stubs


def _bevelled(canvas: Canvas, room: Room, style: WallStyle, rng: np.random.Generator, *, is_round: bool) -> Room:
    """Draw the walls of a round room or of one with slanting corners; return where furniture can stand."""
    least = min(room.width, room.height)
    if is_round:
        draw_round(canvas, room, style)
        inside = room.shrunk(0.12 * least)
    else:
        sizes = rng.uniform(0.08, 0.35, 4) * least * (rng.random(4) < 0.45)
        draw_chamfered(canvas, room, style, sizes.tolist())
        inside = room.shrunk(0.15 * float(sizes.max()))
    for _ in range(int(rng.integers(1, 4))):
        open_sector(canvas, room, float(rng.uniform(0, 2 * math.pi)), width=float(rng.uniform(0.1, 0.6)))
    return inside


def _l_shape(rng: np.random.Generator, space: Room) -> list[Room]:
    """Return a room and, beside it, an alcove that is less wide."""
    share, depth = rng.uniform(0.3, 0.75), rng.uniform(0.15, 0.4)
    if rng.random() < 0.5:
        cut = round(space.bottom - depth * space.height)
        room, width = Room(space.left, space.top, space.right, cut), round(share * space.width)
        left = space.left if rng.random() < 0.5 else space.right - width
        return [room, Room(left, cut, left + width, space.bottom)]
    cut = round(space.right - depth * space.width)
    room, height = Room(space.left, space.top, cut, space.bottom), round(share * space.height)
    top = space.top if rng.random() < 0.5 else space.bottom - height
    return [room, Room(cut, top, space.right, top + height)]


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


def _without_corners(rng: np.random.Generator, rooms: list[Room], outline: Room) -> list[Room]:
    """Leave up to two rooms at the corners out, so that the outline is no rectangle."""
    for _ in range(int(rng.integers(0, 3))):
        corners = [
            number
            for number, room in enumerate(rooms)
            if room.left == outline.left or room.right == outline.right
            if room.top == outline.top or room.bottom == outline.bottom
        ]
        if corners and len(rooms) > 3:
            del rooms[corners[int(rng.integers(len(corners)))]]
    return rooms


def _uses(rng: np.random.Generator, rooms: list[Room], scale: float) -> list[Furnish]:
    """Return what each room of a flat is used as: the largest to live in, the smallest as bath and hall."""
    by_area = sorted(range(len(rooms)), key=lambda i: rooms[i].width * rooms[i].height, reverse=True)
    uses: list[Furnish] = [hall] * len(rooms)
    for rank, index in enumerate(by_area):
        area = rooms[index].width * rooms[index].height / scale**2
        if rank == 0:
            uses[index] = living
        elif area < 5:
            uses[index] = bath if rng.random() < 0.6 else hall
        elif rank < 3:
            uses[index] = bedroom
        else:
            uses[index] = some_kind(rng)
    return uses


def _finish(
    canvas: Canvas,
    wall: Wall,
    style: WallStyle,
    scale: float,
    rng: np.random.Generator,
    *,
    door: bool,
    windows: float,
    broken: float,
) -> None:
    """Give a wall its door, and its window or its break with a probability."""
    if wall.outer and rng.random() < windows and wall.length > 4 * style.thickness:
        length = rng.uniform(0.25, 0.8) * wall.length
        start = float(rng.uniform(0, wall.length - length))
        fill_window(canvas, wall, start, start + length, style)
    if door:
        width = min(float(rng.uniform(0.7, 1.1)) * scale, 0.5 * wall.length)
        spare = wall.length - width
        corner = min(1.5 * style.thickness, spare / 2)
        start = float(rng.uniform(corner, spare - corner))
        open_door(canvas, wall, start, start + width, style, closed=bool(rng.random() < 0.8))
    elif rng.random() < broken:
        (break_wall if rng.random() < 0.75 else fray_wall)(canvas, wall, style, rng)


def _slabs(canvas: Canvas, rooms: list[Room], rng: np.random.Generator, share: float) -> None:
    """Put grey slabs beside the walls, as where a ceiling was cut."""
    if rng.random() >= share:
        return
    for _ in range(int(rng.integers(1, 4))):
        room = rooms[int(rng.integers(len(rooms)))]
        width, height = rng.uniform(0.06, 0.35) * room.width, rng.uniform(0.15, 0.7) * room.height
        x = room.left - width * rng.random() if rng.random() < 0.5 else room.right - width * rng.random()
        y = rng.uniform(room.top, room.bottom - height)
        canvas.box(x, y, x + width, y + height, LayoutClass.WALL)


def _ceiling(canvas: Canvas, room: Room, rng: np.random.Generator) -> None:
    """Hide most of a room behind a slab with a few openings."""
    canvas.box(room.left, room.top, room.right, room.bottom, LayoutClass.WALL)
    for _ in range(int(rng.integers(1, 4))):
        width, height = rng.uniform(0.15, 0.7) * room.width, rng.uniform(0.15, 0.7) * room.height
        x, y = rng.uniform(room.left, room.right - width), rng.uniform(room.top, room.bottom - height)
        canvas.box(x, y, x + width, y + height, LayoutClass.BACKGROUND)


def _specks(canvas: Canvas, rooms: list[Room], rng: np.random.Generator) -> None:
    """Scatter tiny pieces about the floor, at times around one place."""
    if rng.random() >= 0.4:
        return
    classes, shares = list(SPECKS), np.cumsum(list(SPECKS.values()))
    room, spread = rooms[int(rng.integers(len(rooms)))], rng.uniform(0.03, 0.3)
    centre = rng.uniform((room.left, room.top), (room.right, room.bottom))
    clustered = rng.random() < 0.5
    for _ in range(int(rng.integers(1, 14))):
        if clustered:
            x, y = rng.normal(centre, spread * room.width / 2)
        else:
            x, y = rng.uniform((room.left, room.top), (room.right, room.bottom))
        fill = classes[int(np.searchsorted(shares, rng.random() * shares[-1]))]
        canvas.square((float(x), float(y)), rng.uniform(3, 9) * canvas.unit, fill)


def _furnish(room: Room, style: WallStyle, scale: float, furnish: Furnish, brush: Brush) -> None:
    inside = room.shrunk(style.thickness / 2 + 1)
    if min(inside.width, inside.height) > 0.8 * scale:
        furnish(Furnisher(brush, brush.rng, inside, scale, careless=bool(brush.rng.random() < 0.1)))
