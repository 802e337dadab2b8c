"""PNG files, among them some that Pillow does not write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(image: Image.Image, **options: Any) -> bytes:
    """Return an image as a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width: int, height: int, data: bytes, bits: int = 8) -> bytes:
    """Return a PNG whose header claims an RGB image of this size, whatever the data are."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    return SIGNATURE + header + png_chunk(b"IDAT", zlib.compress(data)) + png_chunk(b"IEND", b"")
