"""Pictures of layouts: PNG files that are written, and image files that people name."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imginav.errors import UserError
from imginav.rundir import write_bytes

Pixels = NDArray[np.uint8]

GAP = 4
"""Pixels between two tiles."""

CAPTION_HEIGHT = 18
"""Pixels above the tiles that their captions take."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""That are read; of Pillow's other formats some run programs on what they read."""

DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, Image.DecompressionBombError, struct.error)
"""What Pillow's decoders raise on damaged bytes."""

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


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG file, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getbuffer())


def read_picture(path: Path, background: tuple[int, int, int], size: int | None = None) -> Pixels:
    """Return an image file as RGB bytes (H, W, 3), with `background` where it shows nothing.

    With a `size` it is brought to a square of so many pixels, by taking the nearest pixel. Raises UserError where it
    cannot be read as a whole.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            opaque = Image.new("RGBA", image.size, (*background, 255))
            opaque.alpha_composite(image.convert("RGBA"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture") from None
    except DECODER_ERRORS as error:
        raise UserError(f"{path}: cannot be read as a picture ({error}); take a whole PNG file") from None
    picture = opaque.convert("RGB")
    if size is not None:
        picture = picture.resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(picture, dtype=np.uint8).copy()
