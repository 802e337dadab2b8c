"""A canvas of class indices and the shapes that are drawn on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from attrs import define, frozen
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from imginav_datasets.classes import LayoutClass

Point = tuple[float, float]
Polygon = Sequence[Point]
Points = NDArray[np.float64]  # (n, 2), x before y

ROUND_CORNERS = 20
"""Corners of the polygons that stand for discs and blobs."""


class Canvas:
    """A square of class indices, all background at first.

    What is drawn stands turned around the middle of the picture. Squares stay upright: they are samples, not things.
    """

    def __init__(self, size: int, turn: float = 0.0) -> None:
        self.size = size
        self.unit = size / 512  # lengths that are given for a picture of 512 pixels are multiplied by it
        self.turn = turn  # in radians, clockwise as seen in the picture
        self._cos, self._sin = math.cos(turn), math.sin(turn)
        self._image = Image.new("L", (size, size), int(LayoutClass.BACKGROUND))
        self._draw = ImageDraw.Draw(self._image)

    def box(self, left: float, top: float, right: float, bottom: float, fill: LayoutClass) -> None:
        """Fill a rectangle; its right and bottom ends are not drawn."""
        # Halves are rounded up, not to even numbers, so that a line is equally wide wherever it stands.
        left, right = sorted((math.floor(left + 0.5), math.floor(right + 0.5)))
        top, bottom = sorted((math.floor(top + 0.5), math.floor(bottom + 0.5)))
        if right <= left or bottom <= top:
            return
        right, bottom = right - 1, bottom - 1
        if self.turn:
            self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill)
        else:
            self._draw.rectangle((left, top, right, bottom), fill=int(fill))

    def square(self, centre: Point, side: float, fill: LayoutClass) -> None:
        """Fill an upright square around a point; it is at least one pixel."""
        self.squares([centre], side, fill)

    def squares(self, centres: Iterable[Point], side: float, fill: LayoutClass) -> None:
        """Fill upright squares of one size around many points."""
        pixels, value, draw = max(1, round(side)), int(fill), self._draw.rectangle
        half, last = pixels / 2, pixels - 1
        for centre in centres:
            x, y = self.turned(centre) if self.turn else centre
            left, top = round(x - half), round(y - half)
            draw((left, top, left + last, top + last), fill=value)

    def polygon(self, corners: Polygon, fill: LayoutClass) -> None:
        """Fill a polygon."""
        if self.turn:
            corners = [self.turned(corner) for corner in corners]
        self._draw.polygon(list(corners), fill=int(fill))

    def line(self, points: Polygon, width: float, fill: LayoutClass) -> None:
        """Draw a line through points that is `width` pixels wide."""
        if self.turn:
            points = [self.turned(point) for point in points]
        self._draw.line(list(points), fill=int(fill), width=max(1, round(width)))

    def turned(self, point: Point) -> Point:
        """Return where in the picture a point comes to lie."""
        middle = self.size / 2
        x, y = point[0] - middle, point[1] - middle
        return middle + x * self._cos - y * self._sin, middle + x * self._sin + y * self._cos

    def classes(self) -> NDArray[np.uint8]:
        """Return the class index of each pixel, (size, size)."""
        return np.array(self._image)


@define
class Brush:
    """Fills polygons as a layout that was sampled from points has them: ragged, with holes, as a cloud of squares.

    All lengths are in pixels of the picture.
    """

    canvas: Canvas
    rng: np.random.Generator
    grain: float = 0.0  # side of the squares that make edges ragged; 0 for straight edges
    holes: float = 0.0  # squares of background per 1000 pixels of area in a picture of 512 pixels
    wave: float = 0.0  # how far the outline strays; 0 for none
    cloud: float = 0.0  # side of the squares of which a shape consists; 0 for a filled shape

    def fill(self, corners: Polygon, fill: LayoutClass) -> None:
        """Fill a polygon in the manner of this brush."""
        points, area = np.array(corners), _area(corners)
        if self.wave:
            points = self._waved(points, area)
            corners = _pairs(points)
        if self.cloud:
            count = min(600, round(1.6 * area / self.cloud**2))
            self.canvas.squares(self._inside(points, count), self.cloud, fill)
            self.canvas.squares(self._along(points, spacing=0.8 * self.cloud), self.cloud, fill)
        else:
            self.canvas.polygon(corners, fill)
        if self.grain:
            self.canvas.squares(self._along(points, spacing=2.5 * self.grain), self.grain, fill)
        if self.holes:
            unit = self.canvas.unit
            count = min(200, round(self.holes * area / (1000 * unit**2)))
            side = self.rng.uniform(3, 6) * unit
            self.canvas.squares(self._inside(points, count), side, LayoutClass.BACKGROUND)

    def _along(self, points: Points, spacing: float) -> Polygon:
        """Return points near the outline, a random place each."""
        sides = _following(points) - points
        lengths = np.hypot(sides[:, 0], sides[:, 1])
        ends = lengths.cumsum()
        count = min(400, int(ends[-1] / max(1.0, spacing)))
        places = self.rng.random(count) * ends[-1]
        side = np.minimum(ends.searchsorted(places), len(points) - 1)
        share = 1 - (ends[side] - places) / np.maximum(lengths[side], 1e-9)
        jitter = (self.rng.random((count, 2)) - 0.5) * (0.36 * spacing)
        return _pairs(points[side] + share[:, None] * sides[side] + jitter)

    def _inside(self, points: Points, count: int) -> Polygon:
        """Return points inside, random places each, as far as the outline is seen from its middle."""
        u, v = self.rng.random((2, count, 1))
        if len(points) == 4:
            top, bottom = points[0] + u * (points[1] - points[0]), points[3] + u * (points[2] - points[3])
            return _pairs(top + v * (bottom - top))
        middle, side = points.mean(axis=0), self.rng.integers(len(points), size=count)
        rim = points[side] + u * (_following(points)[side] - points[side])
        return _pairs(middle + np.sqrt(v) * (rim - middle))

    def _waved(self, points: Points, area: float) -> Points:
        """Return an outline with more corners, each of them displaced."""
        sides = _following(points) - points
        wave = min(self.wave, 0.07 * math.sqrt(area))  # a small piece keeps its form
        length = float(np.hypot(sides[:, 0], sides[:, 1]).sum())
        per_side = min(14, max(1, int(length / (len(points) * max(2.0, 2.5 * wave)))))
        shares = (np.arange(per_side) / per_side)[:, None]
        outline = (points[:, None] + shares * sides[:, None]).reshape(-1, 2)
        return outline + wave * self.rng.standard_normal(outline.shape)


@frozen
class Frame:
    """A place to stand a piece of furniture on: an origin and an orientation in the picture.

    `u` runs to the right along a wall and `v` away from it, both in metres.
    """

    x: float  # of the origin, in pixels
    y: float
    angle: float  # of u, in radians, clockwise as seen in the picture
    scale: float  # pixels per metre

    def at(self, u: float, v: float) -> Point:
        """Return a point of the frame in pixels of the picture."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return self.x + self.scale * (u * cos - v * sin), self.y + self.scale * (u * sin + v * cos)

    def moved(self, u: float, v: float, turn: float = 0.0) -> Frame:
        """Return the frame with another origin, turned by an angle in radians."""
        x, y = self.at(u, v)
        return Frame(x, y, self.angle + turn, self.scale)

    def rectangle(self, u: float, v: float, width: float, depth: float) -> list[Point]:
        """Return a rectangle whose edge nearest to the wall is centred at (u, v)."""
        half = width / 2
        return [self.at(u - half, v), self.at(u + half, v), self.at(u + half, v + depth), self.at(u - half, v + depth)]

    def rounded(self, u: float, v: float, width: float, depth: float) -> list[Point]:
        """Return a rectangle with round corners whose edge nearest to the wall is centred at (u, v)."""
        half, radius = width / 2, 0.3 * min(width, depth)
        corners = ((half, depth), (-half, depth), (-half, 0.0), (half, 0.0))  # in the order of growing angles
        return [
            self.at(
                u + x - math.copysign(radius, x) + radius * math.cos(turn),
                v + y + (radius if y == 0 else -radius) + radius * math.sin(turn),
            )
            for quarter, (x, y) in enumerate(corners)
            for turn in (math.pi / 2 * (quarter + share) for share in (0.0, 0.25, 0.5, 0.75, 1.0))
        ]

    def ellipse(self, u: float, v: float, width: float, depth: float, wobble: Iterable[float] = ()) -> list[Point]:
        """Return an ellipse around (u, v); `wobble` scales its corners one by one, for blobs."""
        factors = list(wobble) or [1.0] * ROUND_CORNERS
        turns = [2 * math.pi * corner / len(factors) for corner in range(len(factors))]
        return [
            self.at(u + factor * width / 2 * math.cos(turn), v + factor * depth / 2 * math.sin(turn))
            for factor, turn in zip(factors, turns, strict=True)
        ]


def _area(corners: Polygon) -> float:
    x1, y1 = corners[-1]
    doubled = 0.0
    for x, y in corners:
        doubled += x1 * y - x * y1
        x1, y1 = x, y
    return abs(doubled) / 2


def _following(points: Points) -> Points:
    """Return for each corner the next one."""
    return np.concatenate((points[1:], points[:1]))


def _pairs(points: Points) -> list[Point]:
    return [(x, y) for x, y in points.tolist()]
