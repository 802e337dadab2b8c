"""Pictures within a page: as files of their own they are lossless, here they are as small as the page has room."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from PIL import Image

STEPS = ((90, 1.0), (75, 1.0), (60, 1.0), (60, 0.75), (50, 0.5), (40, 0.35), (30, 0.2))
"""Quality of WebP and scale, the best first. At 90, pictures of layouts look as they do, at a quarter of the bytes."""

EMBEDDED_SHARE = 4 / 3
"""What base64 makes of a byte."""

LARGEST = (2560, 16_383)
"""Width and height in pixels: twice as wide as a page shows, and as high as WebP can be."""


@frozen
class Picture:
    """A picture within a page."""

    uri: str
    width: int
    height: int


def embedded(paths: Sequence[Path], most_bytes: int) -> dict[Path, Picture]:
    """Return PNG files as pictures within a page that take at most so many bytes together.

    Files that are not there or cannot be read are left out, and the last ones, too, if they would take too much even at
    the smallest step.
    """
    images = {path: image for path in paths if (image := _read(path)) is not None}
    for quality, scale in STEPS:
        fitting = _fitting(images, quality, scale, most_bytes)
        if len(fitting) == len(images):
            break
    return fitting


def evenly(items: Sequence[int], most: int, *, with_one: int | None = None) -> list[int]:
    """Return at most so many of some rising numbers, evenly chosen, the first and the last among them.

    `with_one` is among them, too, if it is one of them; it takes the place of the nearest.
    """
    if len(items) <= most:
        return list(items)
    places = [round(number * (len(items) - 1) / (most - 1)) for number in range(most)]
    if with_one is not None and with_one in items:
        own = list(items).index(with_one)
        nearest = min(range(1, most - 1), key=lambda number: abs(places[number] - own))
        if own not in places:
            places[nearest] = own
    return [items[place] for place in places]


def _read(path: Path) -> Image.Image | None:
    with suppress(OSError, Image.DecompressionBombError), Image.open(path) as opened:
        image = opened.convert("RGB")
        image.thumbnail(LARGEST, Image.Resampling.LANCZOS)
        return image
    return None


def _fitting(images: dict[Path, Image.Image], quality: int, scale: float, most_bytes: int) -> dict[Path, Picture]:
    """Return as many pictures, from the first on, as fit into so many bytes."""
    found: dict[Path, Picture] = {}
    taken = 0.0
    for path, image in images.items():
        content = _webp(image, quality, scale)
        taken += EMBEDDED_SHARE * len(content)
        if taken > most_bytes:
            break
        uri = f"data:image/webp;base64,{base64.b64encode(content).decode()}"
        found[path] = Picture(uri, image.width, image.height)
    return found


def _webp(image: Image.Image, quality: int, scale: float) -> bytes:
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=quality, method=4)
    return buffer.getvalue()
