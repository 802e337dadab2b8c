"""Pictures within a page: as files of their own they are lossless, here they are as small as the page has room."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

STEPS = ((90, 1.0), (75, 1.0), (60, 1.0), (60, 0.75), (50, 0.5), (40, 0.35), (30, 0.2))
"""Quality of WebP and scale, the best first. At 90, pictures of layouts look as they do, at a quarter of the bytes."""

EMBEDDED_SHARE = 4 / 3
"""What base64 makes of a byte."""


def data_uris(paths: Sequence[Path], most_bytes: int) -> list[str]:
    """Return PNG files as addresses of pictures within a page that take at most so many bytes together.

    If they do not even at the smallest step, the last ones are left out.
    """
    images = [_read(path) for path in paths]
    encoded: list[bytes] = []
    for quality, scale in STEPS:
        encoded = [_webp(image, quality, scale) for image in images]
        if EMBEDDED_SHARE * sum(map(len, encoded)) <= most_bytes:
            break
    while encoded and EMBEDDED_SHARE * sum(map(len, encoded)) > most_bytes:
        encoded.pop()
    return [f"data:image/webp;base64,{base64.b64encode(content).decode()}" for content in encoded]


def evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """Return at most so many of some files, evenly chosen, the first and the last among them."""
    if len(paths) <= most:
        return list(paths)
    places = [round(number * (len(paths) - 1) / (most - 1)) for number in range(most)]
    return [paths[place] for place in places]


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _webp(image: Image.Image, quality: int, scale: float) -> bytes:
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=quality, method=4)
    return buffer.getvalue()
