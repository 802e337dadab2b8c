"""Pictures for people: layouts side by side, and figures, as PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imginav.files import write_bytes

Pixels = NDArray[np.uint8]

GAP = 4
"""Pixels between two tiles."""

CAPTION_HEIGHT = 18
"""Pixels above the tiles that their captions take."""

FRAME = (70, 70, 70)
CAPTION = (235, 235, 235)
TITLE = (255, 220, 130)


def grid(
    rows: Sequence[Sequence[Pixels]], captions: Sequence[str] = (), tile: int = 256, titles: Sequence[str] = ()
) -> Image.Image:
    """Return RGB images (H, W, 3), a list for each row, as one picture.

    `captions` stand above the columns, `titles` above each row. Each image is brought to `tile` pixels by taking the
    nearest pixel, so that no colour arises that was not there.
    """
    columns = max(len(row) for row in rows)
    top = CAPTION_HEIGHT if captions else GAP
    height = tile + (CAPTION_HEIGHT if titles else GAP)
    size = (GAP + columns * (tile + GAP), top + len(rows) * height + (GAP if titles else 0))
    picture = Image.new("RGB", size, FRAME)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(12)
    for row, images in enumerate(rows):
        line = top + row * height + (CAPTION_HEIGHT if titles else 0)
        for column, pixels in enumerate(images):
            place = (GAP + column * (tile + GAP), line)
            picture.paste(Image.fromarray(pixels).resize((tile, tile), Image.Resampling.NEAREST), place)
        if titles:
            pen.text((GAP + 2, line - CAPTION_HEIGHT + 2), titles[row], fill=TITLE, font=font)
    for column, caption in enumerate(captions):
        pen.text((GAP + column * (tile + GAP) + 2, 2), caption, fill=CAPTION, font=font)
    return picture


def write_png(path: Path, picture: Image.Image) -> None:
    """Write a PNG file, whole or not at all."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    write_bytes(path, buffer.getbuffer())
