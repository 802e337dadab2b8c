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

ROUND_CORNERS = 20
"""Corners of the polygons that stand for discs and blobs."""


class Canvas:
    """A square of class indices, all background at first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._image = Image.new("L", (size, size), int(LayoutClass.BACKGROUND))
        self._draw = ImageDraw.Draw(self._image)

    def box(self, left: float, top: float, right: float, bottom: float, fill: LayoutClass) -> None:
        """Fill an upright rectangle; its right and bottom ends are not drawn."""
        left, right = sorted((round(left), round(right)))
        top, bottom = sorted((round(top), round(bottom)))
        if right > left and bottom > top:
            self._draw.rectangle((left, top, right - 1, bottom - 1), fill=int(fill))

    def square(self, centre: Point, side: float, fill: LayoutClass) -> None:
        """Fill an upright square around a point."""
        x, y = centre
        self.box(x - side / 2, y - side / 2, x + side / 2, y + side / 2, fill)

    def polygon(self, corners: Polygon, fill: LayoutClass) -> None:
        """Fill a polygon."""
        self._draw.polygon(list(corners), fill=int(fill))

    def line(self, start: Point, end: Point, width: float, fill: LayoutClass) -> None:
        """Draw a line that is `width` pixels wide."""
        self._draw.line([start, end], fill=int(fill), width=max(1, round(width)))

    def classes(self) -> NDArray[np.uint8]:
        """Return the class index of each pixel, (size, size)."""
        return np.array(self._image)


@define
class Brush:
    """Fills polygons as a layout that was sampled from points has them: with ragged edges, and with holes."""

    canvas: Canvas
    rng: np.random.Generator
    grain: float  # side of the squares that make edges ragged, in pixels; 0 for straight edges
    holes: float  # squares of background per 1000 pixels of area

    def fill(self, corners: Polygon, fill: LayoutClass) -> None:
        """Fill a polygon, and roughen its edges."""
        self.canvas.polygon(corners, fill)
        if self.grain:
            for point in self._along(corners, spacing=2.5 * self.grain):
                jitter = self.rng.uniform(-0.45, 0.45, 2) * self.grain
                self.canvas.square((point[0] + jitter[0], point[1] + jitter[1]), self.grain, fill)
        for _ in range(round(self.holes * _area(corners) / 1000)):
            weights = self.rng.dirichlet(np.ones(len(corners)))
            x, y = weights @ np.array(corners)
            self.canvas.square((float(x), float(y)), self.rng.uniform(3, 6), LayoutClass.BACKGROUND)

    def _along(self, corners: Polygon, spacing: float) -> Iterable[Point]:
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            count = int(math.hypot(x1 - x0, y1 - y0) / spacing)
            for share in self.rng.random(count):
                yield x0 + share * (x1 - x0), y0 + share * (y1 - y0)


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

    def ellipse(self, u: float, v: float, width: float, depth: float, wobble: Iterable[float] = ()) -> list[Point]:
        """Return an ellipse around (u, v); `wobble` scales its corners one by one, for blobs."""
        factors = list(wobble) or [1.0] * ROUND_CORNERS
        turns = [2 * math.pi * corner / len(factors) for corner in range(len(factors))]
        return [
            self.at(u + factor * width / 2 * math.cos(turn), v + factor * depth / 2 * math.sin(turn))
            for factor, turn in zip(factors, turns, strict=True)
        ]


def _area(corners: Polygon) -> float:
    points = np.array(corners)
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
