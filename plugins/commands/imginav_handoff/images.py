"""From pictures as Python users have them to the images that an autoencoder takes, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from imginav.pixels import to_bytes, to_floats
from imginav_datasets.image_files import Colour, UnusableImageError, pixels_of

Picture = Image.Image | NDArray[np.uint8]
"""A picture of Pillow, in any mode, or its RGB bytes (H, W, 3)."""

Pictures = Tensor | Picture | Sequence[Picture]
"""Images (N, 3, H, W) in [-1, 1]; or a picture, a list of pictures of one size, or their RGB bytes (N, H, W, 3)."""

ACCEPTED = (
    "expected a tensor (N, 3, H, W) of floats in [-1, 1], pictures of Pillow, or arrays of uint8 (H, W, 3) or "
    "(N, H, W, 3)"
)


def images_of(given: Pictures, background: Colour) -> Tensor:
    """Return pictures as images (N, 3, H, W) in [-1, 1]; a tensor is returned as it is.

    What is transparent in a picture shows the `background`. Raises ValueError for anything else, for an empty list, and
    for pictures of different sizes.
    """
    if isinstance(given, Tensor):
        return given
    if isinstance(given, np.ndarray) and given.ndim == 4:
        given = list(given)
    pictures = [_pixels(one, background) for one in (given if isinstance(given, list | tuple) else [given])]
    sizes = sorted({f"{one.shape[1]}×{one.shape[0]}" for one in pictures})
    if not pictures:
        raise ValueError(f"{ACCEPTED}, found an empty list")
    if len(sizes) > 1:
        raise ValueError(
            f"expected pictures of one size, found {' and '.join(sizes[:3])} pixels; encode them one by one"
        )
    return as_images(torch.from_numpy(np.stack(pictures)))


def as_images(pixels: Tensor) -> Tensor:
    """Return bytes (N, H, W, 3) as images (N, 3, H, W) in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous()


def padded(images: Tensor, factor: int, background: Colour) -> Tensor:
    """Return images (N, 3, H, W) with background at the right and at the bottom, up to multiples of `factor`."""
    height, width = images.shape[-2:]
    if not (height % factor or width % factor):
        return images
    colour = to_floats(torch.tensor(background, dtype=torch.uint8)).to(images)
    ground = colour[:, None, None].expand(len(images), -1, height + -height % factor, width + -width % factor).clone()
    ground[..., :height, :width] = images
    return ground


def cut(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the upper left (height, width) of images; raises ValueError where they are smaller."""
    height, width = size
    if not (0 < height <= images.shape[-2] and 0 < width <= images.shape[-1]):
        raise ValueError(
            f"expected a size of at most {images.shape[-2]}×{images.shape[-1]} (height×width), found {height}×{width}"
        )
    return images[..., :height, :width]


def pictures_of(images: Tensor) -> list[Image.Image]:
    """Return images (N, 3, H, W) in [-1, 1] as pictures of Pillow."""
    return [Image.fromarray(pixels) for pixels in to_bytes(images)]


def _pixels(picture: object, background: Colour) -> NDArray[np.uint8]:
    if isinstance(picture, Image.Image):
        try:
            return pixels_of(picture, background)
        except UnusableImageError as error:
            raise ValueError(f"the picture cannot be read: {error}") from None
    if isinstance(picture, np.ndarray):
        if picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.size:
            return picture
        raise ValueError(f"{ACCEPTED}, found an array {picture.shape} of {picture.dtype}")
    raise ValueError(f"{ACCEPTED}, found {type(picture).__name__}")
