"""How fast layouts come from the disk: images beside plain Pillow, and lists of up to a million rows."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imginav import LayoutSource
from imginav.registry import installed

IMAGES = 32
TAKEN_EVERY = 500
"""Of the rows of a list, the filter takes one in so many: their files are looked at, the others' are not."""


def open_set(**settings: object) -> LayoutSource:
    dataset = installed().find("dataset", settings.pop("type"))
    return dataset(**settings).open()


@pytest.fixture
def drawn() -> Callable[[int], Iterator[np.ndarray]]:
    """Return layouts of a size as RGB bytes (H, W, 3)."""

    def images(size: int) -> Iterator[np.ndarray]:
        source = open_set(type="procedural", count=IMAGES, image_size=size)
        return (source.read(index)["rgb"] for index in range(len(source)))

    return images


@pytest.mark.benchmark(group="loading images")
@pytest.mark.parametrize("size", [256, 512, 1024])
def test_png(
    size: int,
    drawn: Callable[[int], Iterator[np.ndarray]],
    tmp_path: Path,
    benchmark: Any,
    interleaved: Callable[..., None],
) -> None:
    """Pixels, classes and label of each, from checked files; Pillow decodes the pixels alone."""
    paths = [tmp_path / f"{number}.png" for number in range(IMAGES)]
    for path, pixels in zip(paths, drawn(size), strict=True):
        Image.fromarray(pixels).save(path)
    listed = tmp_path / "layouts.csv"
    listed.write_text("layout_path,type\n" + "".join(f"{path.name},room\n" for path in paths))
    source = open_set(type="layouts", manifest=listed, image_size=size)
    source.read(0)  # makes the table of colours, once for all

    def with_pillow() -> None:
        for path in paths:
            with Image.open(path) as image:
                np.asarray(image.convert("RGB"))

    benchmark.extra_info["images"] = IMAGES
    interleaved(lambda: [source.read(index) for index in range(IMAGES)], with_pillow, peer="Pillow")


@pytest.mark.benchmark(group="opening a list")
@pytest.mark.parametrize("rows", [1_000, 10_000, 100_000, 1_000_000])
def test_rows(
    rows: int, tmp_path: Path, benchmark: Any, interleaved_briefly: Callable[..., None], pytestconfig: pytest.Config
) -> None:
    """Beside reading the same list with the standard library's csv, into a table for each row."""
    if pytestconfig.option.quick and rows > 10_000:
        pytest.skip("--quick: takes seconds")
    image = tmp_path / "0.png"
    Image.new("RGB", (512, 512)).save(image)
    listed = tmp_path / "layouts.csv"
    with listed.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["layout_path", "type", "is_empty", "scene_id", "room_count"])
        for row in range(rows):
            taken = row % TAKEN_EVERY == 0
            writer.writerow([f"{row}.png", "room", str(not taken).lower(), row // 7, row % 5])
            if taken and row:
                (tmp_path / f"{row}.png").hardlink_to(image)

    def with_csv() -> int:
        with listed.open(newline="") as stream:
            return len(list(csv.DictReader(stream)))

    def opened() -> None:
        source = open_set(type="layouts", manifest=listed, filters={"is_empty": False})
        assert len(source) == rows / TAKEN_EVERY

    benchmark.extra_info["rows"] = rows
    interleaved_briefly(opened, with_csv, peer="csv.DictReader")
