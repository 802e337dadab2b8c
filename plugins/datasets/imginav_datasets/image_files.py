"""The one reader of image files: what they show as RGB bytes, and what is wrong with them."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""What layouts are drawn, exported or scanned as. Of Pillow's other formats some run programs on what they read."""

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Of their files, in small letters."""

MOST_PIXELS = 2**26
"""Of an image file, 8192 × 8192: they take 200 MB, and a file of a hundred bytes can claim as many as it likes."""

MOST_BYTES_HELD = 2**30
"""Of a file that is read as a whole."""

WHITE_16_BITS = 65535
"""The value of white in an image of 16 bits."""

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND"
PNG_ANIMATION = b"acTL"

START_BYTES = 512
"""In which an animated PNG says that it is one, if nothing long stands before; if so, it is found when it is read."""

TAIL_BYTES = 64
"""Where a PNG's end mark is looked for, counted from the end of the file."""

DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Image.DecompressionBombError,
    struct.error,
    zlib.error,
)
"""Pillow promises nothing about what its decoders raise on damaged bytes; these are what they can."""


class UnusableImageError(Exception):
    """An image file cannot be used; the text says why in a few words."""


def ignore_warnings_of_pillow() -> None:
    """Let Pillow not warn of what it finds odd in a file: one that cannot be used is refused, with a sentence."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def fault_of(path: Path) -> str:
    """Return what is wrong with an image file, in a few words, or nothing.

    It looks at the start and the end of the file, which is cheap, and finds what is missing, cut off or no image.
    """
    try:
        with _explained(), _regular_file(path) as stream:
            start = stream.read(START_BYTES)
            if start.startswith(PNG_START) and PNG_ANIMATION not in start:
                _check_png(stream, start)
            else:
                with _opened(stream):
                    pass
    except UnusableImageError as error:
        return str(error)
    return ""


def read_image(path: Path, size: int | None, background: Colour) -> NDArray[np.uint8]:
    """Return an image file as RGB bytes (size, size, 3), `background` where it shows nothing.

    It is scaled to fit without new colours, and centred on the background; without a size it is (H, W, 3), as it is.
    Raises UnusableImageError.
    """
    with _explained(), _regular_file(path) as stream:
        return _decoded(stream, size, background)


def read_image_with_digest(path: Path, size: int | None, background: Colour) -> tuple[NDArray[np.uint8], bytes]:
    """Return an image file as RGB bytes, and the SHA-256 of the very bytes that they were decoded from.

    Raises UnusableImageError; also for a file that is too large to be held, which `read_image` may be able to read.
    """
    with _explained(), _regular_file(path) as stream:
        if os.fstat(stream.fileno()).st_size > MOST_BYTES_HELD:
            raise UnusableImageError("too large to be held")
        content = stream.read()
        return _decoded(BytesIO(content), size, background), hashlib.sha256(content).digest()


def pixels_of(image: Image.Image, background: Colour) -> NDArray[np.uint8]:
    """Return an image that Pillow has opened as RGB bytes (H, W, 3), as `read_image` does with its file.

    Raises UnusableImageError.
    """
    with _explained():
        return np.array(_flattened(ImageOps.exif_transpose(image), background))


def digest_of(path: Path) -> bytes:
    """Return the SHA-256 of an image file; raises UnusableImageError."""
    with _explained(), _regular_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _decoded(stream: BinaryIO, size: int | None, background: Colour) -> NDArray[np.uint8]:
    if stream.read(len(PNG_START)) == PNG_START:
        # Pillow decodes without a look at the checksums: a flipped bit would become another class.
        with _opened(stream) as image:
            image.verify()
    with _opened(stream) as image:
        ImageOps.exif_transpose(image, in_place=True)
        picture = _flattened(image, background)
    return np.asarray(picture if size is None else _of_size(picture, size, background))


@contextmanager
def _explained() -> Iterator[None]:
    """Raise UnusableImageError for whatever is wrong with the file that is opened or decoded inside."""
    try:
        yield
    except FileNotFoundError:
        raise UnusableImageError("missing") from None
    except UnidentifiedImageError:
        raise UnusableImageError("no image") from None
    except Image.DecompressionBombError:
        raise UnusableImageError("too large") from None
    except DECODER_ERRORS as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnusableImageError(" ".join(said.split())) from error


@contextmanager
def _regular_file(path: Path) -> Iterator[BufferedReader]:
    """Open a file that is one, and not empty: a pipe would be waited for."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise UnusableImageError("a folder")
    if not stat.S_ISREG(status.st_mode):
        raise UnusableImageError("a pipe or device")
    if not status.st_size:
        raise UnusableImageError("empty")
    with path.open("rb") as stream:
        yield stream


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[Image.Image]:
    """Read the head of an image: which format it has and how large it is."""
    with Image.open(stream, formats=FORMATS) as image:
        _check_size(*image.size)
        # The pictures behind the first of a JPEG are previews of it.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise UnusableImageError("several pictures in one file")
        yield image


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise UnusableImageError("too large")


def _check_png(stream: BinaryIO, start: bytes) -> None:
    """Look for the end mark of a PNG, and at the size that it claims, without the cost of opening it as an image."""
    if len(start) < len(PNG_START) + 16:
        raise UnusableImageError("cut off")
    _check_size(*struct.unpack_from(">II", start, len(PNG_START) + 8))
    stream.seek(-min(TAIL_BYTES, stream.seek(0, os.SEEK_END)), os.SEEK_END)
    if PNG_END in stream.read():
        return
    try:  # more than the mark may stand behind it
        with _opened(stream) as image:
            image.verify()
    except DECODER_ERRORS:
        raise UnusableImageError("cut off") from None


def _flattened(image: Image.Image, background: Colour) -> Image.Image:
    """Return an image as RGB; what is transparent shows the background."""
    if image.mode == "F":
        raise UnusableImageError("its numbers have no known white")
    if image.mode.startswith("I"):
        return _of_16_bits(image, background)
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def _of_16_bits(image: Image.Image, background: Colour) -> Image.Image:
    """Return grey of 16 bits as RGB: Pillow would cut it off at 255, and forget what is transparent."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > WHITE_16_BITS:
        raise UnusableImageError("its numbers have no known white")
    rgb = np.repeat(np.rint(values / WHITE_16_BITS * 255).astype(np.uint8)[..., None], 3, axis=-1)
    if isinstance(transparent := image.info.get("transparency"), int):
        rgb[values == transparent] = background
    return Image.fromarray(rgb)


def _of_size(image: Image.Image, size: int, background: Colour) -> Image.Image:
    """Return an image in a square of `size` pixels: scaled to fit without new colours, centred on background."""
    if image.size == (size, size):
        return image
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new("RGB", (size, size), background)
    scaled = image.resize((width, height), Image.Resampling.NEAREST)
    square.paste(scaled, ((size - width) // 2, (size - height) // 2))
    return square
