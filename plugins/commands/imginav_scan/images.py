"""What is seen of a single image: its size, its colours, whether it is empty, and what is wrong with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from PIL import Image

from imginav_datasets.colours import colour_of
from imginav_datasets.image_files import FORMATS, UnusableImageError, read_image

WHITE = (255, 255, 255)
"""What transparent pixels show while images are looked at: there is no palette yet to name a background."""

COUNTED_SIDE = 1024
"""Pixels along a side up to which every pixel is counted; of larger images, every second, third … one."""

EMPTY_SHARE = 0.995
"""An image is empty where one colour, within `ALIKE`, covers at least this share of it."""

ALIKE = 8
"""Difference of two colours in each channel up to which they are one."""


@frozen(kw_only=True)
class ImageColours:
    """The colours of an image, each once, by their codes."""

    codes: NDArray[np.uint32]
    pixels: NDArray[np.int64]  # of each colour
    flat_codes: NDArray[np.uint32]  # colours that fill squares of 2×2 pixels, as flat areas do and blended edges do not
    flat_pixels: NDArray[np.int64]  # how many such squares there are of each
    border: NDArray[np.uint32]  # the code of each pixel of the outermost rows and columns


@frozen(kw_only=True)
class ScannedImage:
    """An image that was looked at."""

    path: str  # within the folder, with /
    width: int
    height: int
    mode: str  # Pillow's: RGB, RGBA, P, L, I;16
    format: str
    digest: bytes  # of its pixels: images with the same one show the same
    number_of_colours: int
    is_empty: bool  # nearly one colour


@frozen(kw_only=True)
class UnusableFile:
    """A file that is no image, or none that can be used."""

    path: str
    fault: str  # in a few words


def look_at(folder: Path, path: str) -> tuple[ScannedImage, ImageColours] | UnusableFile:
    """Decode an image of a folder, and return what is seen of it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return UnusableFile(path=path, fault="a name that is not UTF-8, which no list can hold")
    try:
        rgb = read_image(folder / path, None, WHITE)
        with Image.open(folder / path, formats=FORMATS) as image:
            mode, image_format = image.mode, image.format or ""
    except UnusableImageError as error:
        return UnusableFile(path=path, fault=str(error))
    except OSError as error:  # it vanished between the two looks
        return UnusableFile(path=path, fault=error.strerror or str(error))
    colours = _colours(rgb)
    height, width = rgb.shape[:2]
    scanned = ScannedImage(
        path=path,
        width=width,
        height=height,
        mode=mode,
        format=image_format,
        digest=hashlib.sha256(b"%d %d " % (height, width) + rgb.tobytes()).digest()[:16],
        number_of_colours=len(colours.codes),
        is_empty=_is_empty(colours),
    )
    return scanned, colours


def _colours(rgb: NDArray[np.uint8]) -> ImageColours:
    step = -(-max(rgb.shape[:2]) // COUNTED_SIDE)
    wide = rgb[::step, ::step].astype(np.uint32)
    codes = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    flat = np.zeros(codes.shape, dtype=np.uint32)
    first = codes[:-1, :-1]
    flat[:-1, :-1] = (first == codes[1:, :-1]) & (first == codes[:-1, 1:]) & (first == codes[1:, 1:])
    both, pixels = np.unique((codes << 1) | flat, return_counts=True)  # one sort for both counts
    distinct, places = np.unique(both >> 1, return_inverse=True)
    is_flat = (both & 1).astype(bool)
    return ImageColours(
        codes=distinct,
        pixels=np.bincount(places, pixels, len(distinct)).astype(np.int64),
        flat_codes=both[is_flat] >> 1,
        flat_pixels=pixels[is_flat],
        border=np.concatenate([codes[0], codes[-1], codes[:, 0], codes[:, -1]]),
    )


def _is_empty(colours: ImageColours) -> bool:
    commonest = np.array(colour_of(int(colours.codes[colours.pixels.argmax()])))
    channels = np.stack([colours.codes >> 16, colours.codes >> 8 & 255, colours.codes & 255], axis=-1).astype(np.int64)
    alike = (np.abs(channels - commonest) <= ALIKE).all(axis=-1)
    return bool(colours.pixels[alike].sum() >= EMPTY_SHARE * colours.pixels.sum())
