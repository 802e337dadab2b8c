"""Pictures as Python users have them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from imginav_handoff.images import Pictures, as_images, cut, images_of, padded, pictures_of

GREY = (240, 240, 240)

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
"""RGB bytes of a picture that is 5 wide and 3 high."""


@pytest.mark.parametrize(
    ("given", "count"),
    [
        (Image.fromarray(PIXELS), 1),
        (PIXELS, 1),
        (PIXELS[None].repeat(2, axis=0), 2),
        ([PIXELS, Image.fromarray(PIXELS)], 2),
        ((Image.fromarray(PIXELS),), 1),
    ],
)
def test_pictures_and_their_bytes_are_the_same_images(given: Pictures, count: int) -> None:
    images = images_of(given, GREY)
    assert images.shape == (count, 3, 3, 5)
    expected = torch.from_numpy(PIXELS).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(images, expected.expand(count, -1, -1, -1))
    assert [np.array(picture).tolist() for picture in pictures_of(images)] == [PIXELS.tolist()] * count


def test_a_tensor_is_returned_as_it_is() -> None:
    images = torch.zeros(1, 3, 4, 4)
    assert images_of(images, GREY) is images


def test_other_modes_are_read_as_files_are() -> None:
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert pictures_of(images_of(clear, GREY))[0].getpixel((0, 0)) == GREY
    assert pictures_of(images_of(Image.new("L", (2, 2), 7), GREY))[0].getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "found an empty list"),
        ([PIXELS, PIXELS[:2]], "expected pictures of one size, found 5×2 and 5×3 pixels; encode them one by one"),
        (PIXELS / 255, r"expected a tensor .*found an array \(3, 5, 3\) of float64"),
        (PIXELS[..., 0], r"found an array \(3, 5\) of uint8"),
        (PIXELS[:0], r"found an array \(0, 5, 3\) of uint8"),
        ("layout.png", "pictures of Pillow, .* found str"),
        ([torch.zeros(3, 4, 4)], "found Tensor"),
        (Image.fromarray(np.zeros((2, 2), np.float32)), "the picture cannot be read: its numbers have no known white"),
    ],
)
def test_anything_else_is_refused(given: Pictures, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images_of(given, GREY)


def test_padding_is_background_at_the_right_and_at_the_bottom_and_changes_nothing_else() -> None:
    images = as_images(torch.from_numpy(PIXELS)[None])
    whole = padded(images, 4, (255, 127, 0))
    assert whole.shape == (1, 3, 4, 8)
    assert torch.equal(whole[..., :3, :5], images)
    (picture,) = pictures_of(whole)
    assert {picture.getpixel(place) for place in ((5, 0), (7, 3), (0, 3))} == {(255, 127, 0)}
    assert torch.equal(cut(whole, (3, 5)), images)
    assert padded(whole, 4, GREY) is whole


@pytest.mark.parametrize("size", [(4, 5), (3, 6), (0, 5)])
def test_a_size_that_is_not_there_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"expected a size of at most 3×5 \(height×width\), found"):
        cut(torch.zeros(1, 3, 3, 5), size)
