"""Pictures within a page: as good as there is room for, and never more than that."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imginav_reports import inline_images
from imginav_reports.inline_images import LARGEST, Picture, embedded, evenly

PREFIX = "data:image/webp;base64,"


def noise(path: Path, size: tuple[int, int] = (64, 48), seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def opened(picture: Picture) -> Image.Image:
    assert picture.uri.startswith(PREFIX)
    return Image.open(io.BytesIO(base64.b64decode(picture.uri.removeprefix(PREFIX))))


def test_with_room_pictures_have_their_size_and_nearly_their_colours(tmp_path: Path) -> None:
    path = tmp_path / "flat.png"
    Image.new("RGB", (60, 40), (228, 26, 28)).save(path)
    found = embedded([path], 1_000_000)
    assert (found[path].width, found[path].height) == (60, 40)
    assert opened(found[path]).size == (60, 40)
    pixel = np.asarray(opened(found[path]).convert("RGB"))[20, 30].astype(int)
    assert np.abs(pixel - (228, 26, 28)).max() <= 6


def test_with_less_room_pictures_become_smaller_in_bytes_and_keep_their_place(tmp_path: Path) -> None:
    paths = [noise(tmp_path / f"{n}.png", (256, 192), n) for n in range(3)]
    sizes = []
    for room in (1_000_000, 60_000, 12_000):
        found = embedded(paths, room)
        assert list(found) == paths
        total = sum(len(picture.uri) for picture in found.values())
        assert total <= room + 3 * len(PREFIX) + 12  # base64 fills up to four characters
        sizes.append((total, opened(found[paths[0]]).width))
        assert (found[paths[0]].width, found[paths[0]].height) == (256, 192)
    assert sizes[0][0] > sizes[1][0] > sizes[2][0]
    assert sizes[0][1] == 256 > sizes[2][1]


def test_no_step_is_worse_than_it_must_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, float]] = []
    webp = inline_images._webp

    def watched(image: Image.Image, quality: int, scale: float) -> bytes:
        tried.append((quality, scale))
        return webp(image, quality, scale)

    monkeypatch.setattr(inline_images, "_webp", watched)
    embedded([noise(tmp_path / "0.png")], 1_000_000)
    assert tried == [inline_images.STEPS[0]]


def test_what_does_not_fit_at_all_is_left_out_from_the_end(tmp_path: Path) -> None:
    paths = [noise(tmp_path / f"{n}.png", (256, 192), n) for n in range(6)]
    found = embedded(paths, 1_500)
    assert 0 < len(found) < 6
    assert list(found) == paths[: len(found)]
    assert embedded(paths, 10) == {}


def test_files_that_are_gone_or_no_pictures_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken, empty = noise(tmp_path / "0.png"), tmp_path / "1.png", tmp_path / "2.png"
    broken.write_bytes(whole.read_bytes()[:2000])
    empty.write_bytes(b"")
    assert list(embedded([tmp_path / "none.png", broken, empty, whole], 1_000_000)) == [whole]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 // 3)  # beyond twice as many it refuses to open a picture
    assert embedded([whole], 1_000_000) == {}


def test_a_picture_higher_than_webp_can_be_is_made_smaller(tmp_path: Path) -> None:
    path = tmp_path / "high.png"
    Image.new("RGB", (100, 20_000)).save(path)
    found = embedded([path], 1_000_000)[path]
    assert found.height <= LARGEST[1]
    assert opened(found).size == (found.width, found.height)


def test_evenly_has_the_ends_and_what_is_asked_for_and_no_more() -> None:
    assert evenly([1, 2, 3], 5) == [1, 2, 3]
    assert evenly([], 5, with_one=3) == []
    assert evenly(range(101), 5) == [0, 25, 50, 75, 100]
    assert evenly(range(101), 5, with_one=60) == [0, 25, 60, 75, 100]
    assert evenly(range(101), 5, with_one=1) == [0, 1, 50, 75, 100]
    assert evenly(range(101), 5, with_one=99) == [0, 25, 50, 99, 100]
    assert evenly(range(101), 5, with_one=75) == [0, 25, 50, 75, 100]
    assert evenly(range(101), 5, with_one=300) == [0, 25, 50, 75, 100]
