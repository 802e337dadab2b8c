"""Image files of every kind, whole and broken."""

from __future__ import annotations

import io
import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from imginav_datasets.classes import PALETTE, LayoutClass
from imginav_datasets.image_files import (
    MOST_PIXELS,
    UnusableImageError,
    fault_of,
    ignore_warnings_of_pillow,
    read_image,
)
from imginav_tests.examples import examples
from imginav_tests.png import png_chunk, png_of

BED, SOFA = PALETTE.colours[LayoutClass.BED], PALETTE.colours[LayoutClass.SOFA]
BACKGROUND = PALETTE.background_colour
SIDE = 16


def read(path: Path) -> NDArray[np.uint8]:
    ignore_warnings_of_pillow()
    return read_image(path, SIDE, BACKGROUND)


def read_or_refused(path: Path) -> NDArray[np.uint8] | None:
    """Return what an image shows, or nothing where it is refused in one line."""
    try:
        return read(path)
    except UnusableImageError as error:
        said = str(error)
    assert len(said.splitlines()) == 1
    return None


def written(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def halves(mode: str, left: Any, right: Any) -> Image.Image:
    image = Image.new(mode, (SIDE, SIDE), right)
    image.paste(left, (0, 0, SIDE // 2, SIDE))
    return image


def indexed(**info: Any) -> Image.Image:
    image = halves("P", 0, 1)
    image.putpalette([*BED, *SOFA])
    image.info.update(info)
    return image


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def png_that_claims(width: int, height: int) -> bytes:
    return png_of(width, height, bytes(1000))


def png_with(*chunks: bytes) -> bytes:
    whole = written(noise(), "PNG")
    head = 8 + 25  # the start and the header
    return whole[:head] + b"".join(chunks) + whole[head:]


# What an image shows, however it is stored


@pytest.mark.parametrize(
    ("image", "left", "right"),
    [
        (halves("RGB", BED, SOFA), BED, SOFA),
        (halves("L", 200, 240), (200,) * 3, (240,) * 3),
        (halves("1", 0, 1), (0, 0, 0), (255, 255, 255)),
        (halves("LA", (200, 255), (0, 0)), (200,) * 3, BACKGROUND),
        (halves("RGBA", (*BED, 255), (*SOFA, 0)), BED, BACKGROUND),
        (indexed(), BED, SOFA),
        (indexed(transparency=1), BED, BACKGROUND),
        (indexed(transparency=bytes([0, 255])), BACKGROUND, SOFA),
        (Image.fromarray(np.array(halves("L", 200, 240), np.uint16) * 257), (200,) * 3, (240,) * 3),
    ],
    ids=["rgb", "grey", "1 bit", "grey+alpha", "rgba", "palette", "index transparent", "alpha of indices", "16 bit"],
)
def test_a_png_of_any_mode_shows_its_colours_and_background_where_it_shows_nothing(
    image: Image.Image, left: tuple[int, ...], right: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    image.save(path, **{k: v for k, v in image.info.items() if k == "transparency"})
    assert fault_of(path) == ""
    rgb = read(path)
    assert (rgb[:, : SIDE // 2] == left).all()
    assert (rgb[:, SIDE // 2 :] == right).all()


def test_grey_of_16_bits_may_be_transparent_or_in_the_other_order_of_bytes(tmp_path: Path) -> None:
    values = np.array(halves("L", 200, 240), np.uint16) * 257
    whole = written(Image.fromarray(values), "PNG")
    (tmp_path / "a.png").write_bytes(whole[:33] + png_chunk(b"tRNS", struct.pack(">H", 200 * 257)) + whole[33:])
    (tmp_path / "b.tif").write_bytes(written(Image.fromarray(values.astype(">u2")), "TIFF"))
    assert (read(tmp_path / "a.png")[0, [0, -1]] == [BACKGROUND, (240,) * 3]).all()
    assert (read(tmp_path / "b.tif")[0, [0, -1]] == [(200,) * 3, (240,) * 3]).all()


@pytest.mark.parametrize("array", [np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70_000, np.int32)])
def test_numbers_of_which_nobody_knows_what_is_white_are_refused(array: NDArray[Any], tmp_path: Path) -> None:
    Image.fromarray(array).save(tmp_path / "a.tif")
    with pytest.raises(UnusableImageError, match="its numbers have no known white"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L"])
def test_a_jpeg_of_any_mode_shows_its_colours(mode: str, tmp_path: Path) -> None:
    image = halves("RGB", (200, 200, 200), (40, 40, 40)).convert(mode)
    image.save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read(tmp_path / "a.jpg")[0, [0, -1]].astype(int) - [[200], [40]]).max() < 8


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_seen_as_its_exif_data_turns_it(orientation: int, file_format: str, tmp_path: Path) -> None:
    quarters = np.kron([[0, 80], [160, 240]], np.ones((8, 8))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    stored = Image.fromarray(quarters).convert("RGB")
    (tmp_path / "a").write_bytes(written(stored, file_format, exif=exif, **options))
    # EXIF 2.32, 4.6.4: where the first row and the first column of what is stored are in what is seen.
    seen = {
        1: quarters,
        2: quarters[:, ::-1],
        3: quarters[::-1, ::-1],
        4: quarters[::-1],
        5: quarters.T,
        6: quarters.T[:, ::-1],
        7: quarters.T[::-1, ::-1],
        8: quarters.T[::-1],
    }[orientation]
    assert np.abs(read(tmp_path / "a")[..., 0].astype(int) - seen).max() < 8


def test_the_previews_in_a_photograph_are_no_other_pictures(tmp_path: Path) -> None:
    first = halves("RGB", (200, 200, 200), (40, 40, 40))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[first.resize((8, 8))], quality=95)
    assert fault_of(tmp_path / "a.jpg") == ""
    assert np.abs(read(tmp_path / "a.jpg")[0, [0, -1]].astype(int) - [[200], [40]]).max() < 8


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000), (MOST_PIXELS // 2**20, 2**20)])
def test_an_image_of_absurd_sides_is_a_line_and_takes_no_time(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("1", size, 0).save(tmp_path / "a.png")
    began = time.monotonic()
    shown = (read(tmp_path / "a.png") == 0).all(axis=-1)
    assert time.monotonic() - began < 5
    assert sorted((int(shown.any(axis=0).sum()), int(shown.any(axis=1).sum()))) == [1, SIDE]


# What cannot be used


def animation(file_format: str, **options: Any) -> bytes:
    return written(noise(), file_format, save_all=True, append_images=[noise().rotate(90)], **options)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty"),
        (b"no image at all", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "no image"),
        (written(noise(), "PNG")[:20], "cut off"),
        (written(noise(), "PNG")[:-20], "cut off"),
        (png_that_claims(100_000, 100_000), "too large"),
        (png_that_claims(2**31 - 1, 2**31 - 1), "too large"),
        (b"P6 10000 10000 255\n", "too large"),  # between Pillow's warning and its error
        (b"P6 65535 65535 255\n", "too large"),
        (animation("GIF"), "several pictures in one file"),
        (animation("PNG"), "several pictures in one file"),
        (animation("TIFF"), "several pictures in one file"),
        (animation("WEBP"), "several pictures in one file"),
    ],
)
def test_what_cannot_be_used_is_found_before_training_and_refused_when_read(
    content: bytes, fault: str, tmp_path: Path
) -> None:
    path = tmp_path / "layout.png"
    path.write_bytes(content)
    ignore_warnings_of_pillow()
    assert fault_of(path) == fault
    with pytest.raises(UnusableImageError):
        read(path)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    path.write_bytes(written(noise(), "PNG"))
    path.chmod(0)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: None, "missing"),
        (lambda path: path.mkdir(), "a folder"),
        (os.mkfifo, "a pipe or device"),
        (lambda path: path.symlink_to("/dev/zero"), "a pipe or device"),
        (lambda path: path.symlink_to(path.with_name("nothing")), "missing"),
        (make_loop, "Too many levels of symbolic links"),
        (make_unreadable, "Permission denied"),
    ],
    ids=["missing", "folder", "pipe", "device", "dangling link", "loop of links", "unreadable"],
)
def test_what_is_no_file_is_said_and_not_waited_for(make: Callable[[Path], None], fault: str, tmp_path: Path) -> None:
    path = tmp_path / "layout.png"
    make(path)
    assert fault_of(path) == fault
    with pytest.raises(UnusableImageError, match=f"^{fault}$"):
        read(path)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert fault_of(tmp_path / ("x" * 300)) == "File name too long"


@pytest.mark.parametrize(
    "content",
    [
        png_that_claims(100_000, 100_000),
        png_with(png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000)))),
        png_with(png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000)))),
    ],
    ids=["pixels", "text", "profile"],
)
def test_a_small_file_that_unpacks_into_a_large_one_takes_no_memory(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UnusableImageError):
            read(tmp_path / "a.png")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "chunk",
    [png_chunk(b"zTXt", b"a\0\0no zlib"), png_chunk(b"iCCP", b"a\0\1"), png_chunk(b"eXIf", b"no exif"), b"\0\0\0\1"],
)
def test_a_broken_chunk_is_no_traceback(chunk: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_with(chunk))
    rgb = read_or_refused(tmp_path / "a.png")
    assert rgb is None or np.array_equal(rgb, noise())


@pytest.mark.parametrize(
    "raised",
    [
        struct.error("unpack requires\na buffer"),
        zlib.error("Error -3"),
        EOFError(),
        IndexError("no\nitem"),
        KeyError(7),
        OverflowError("too\nlarge"),
        ZeroDivisionError(),
        MemoryError(),
        RecursionError("deep"),
        NotImplementedError(),
        AttributeError("none"),
        TypeError("none"),
        AssertionError(),
        UnicodeDecodeError("ascii", b"\xff", 0, 1, "not\nin range"),
        Image.DecompressionBombError("bomb"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises_is_one_line_with_something_in_it(
    raised: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(written(noise(), "PNG"))

    def load(self: Image.Image) -> None:
        raise raised

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    with pytest.raises(UnusableImageError, match=r"\A[^\n]+\Z"):
        read(tmp_path / "a.png")


def test_a_flipped_bit_in_the_pixels_of_a_png_is_not_read_as_another_colour(tmp_path: Path) -> None:
    whole = bytearray(written(noise(), "PNG", compress_level=0))
    whole[len(whole) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(whole)
    assert fault_of(tmp_path / "a.png") == ""
    with pytest.raises(UnusableImageError, match="broken PNG file"):
        read(tmp_path / "a.png")


def test_bytes_behind_the_end_of_a_png_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(written(noise(), "PNG") + b"x" * 1000)
    assert fault_of(tmp_path / "a.png") == ""
    assert np.array_equal(read(tmp_path / "a.png"), noise())


def all_formats() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a layout"
    text = PngImagePlugin.PngInfo()
    text.add_text("made by", "hand " * 20, zip=True)
    return {
        "png": written(noise(), "PNG", pnginfo=text, exif=exif),
        "png of indices": written(indexed(), "PNG", transparency=bytes([0, 255])),
        "apng": animation("PNG"),
        "jpeg": written(noise(), "JPEG", exif=exif),
        "progressive jpeg": written(noise().convert("CMYK"), "JPEG", progressive=True),
        "gif": written(indexed(), "GIF", transparency=1),
        "animated gif": animation("GIF"),
        "bmp": written(noise(), "BMP"),
        "tiff": written(noise(), "TIFF", exif=exif),
        "packed tiff": written(noise(), "TIFF", compression="tiff_lzw"),
        "webp": written(noise(), "WEBP", exif=exif),
        "ppm": written(noise(), "PPM"),
    }


WHOLE = all_formats()
PLACES = st.one_of(st.integers(0, 79), st.integers(0, 2**16))
"""In a file, from its start; half of them in its head, where most can go wrong."""


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "layout.png"


@given(
    kind=st.sampled_from(sorted(WHOLE)),
    flipped=st.lists(st.tuples(PLACES, st.integers(1, 255)), max_size=8),
    kept=st.one_of(st.none(), PLACES),
    added=st.one_of(st.none(), st.tuples(PLACES, st.binary(max_size=20))),
)
@example(kind="png", flipped=[], kept=None, added=None)
@settings(max_examples=examples(1000), deadline=timedelta(seconds=5))
def test_whatever_is_wrong_with_its_bytes_a_file_is_an_image_or_is_refused(
    damaged: Path,
    kind: str,
    flipped: list[tuple[int, int]],
    kept: int | None,
    added: tuple[int, bytes] | None,
) -> None:
    content = bytearray(WHOLE[kind])
    for place, bits in flipped:
        content[place % len(content)] ^= bits
    if added:
        place = added[0] % len(content)
        content[place:place] = added[1]
    damaged.write_bytes(content[: kept % len(content)] if kept is not None else content)
    assert len(fault_of(damaged).splitlines()) <= 1
    rgb = read_or_refused(damaged)
    if rgb is None:
        return
    assert (rgb.shape, rgb.dtype) == ((SIDE, SIDE, 3), np.uint8)
    if kind == "png":  # the only one of these with checksums
        assert np.array_equal(rgb, noise().transpose(Image.Transpose.ROTATE_270))
