"""How fast layouts come from the disk: images and prepared ones beside plain Pillow, lists of up to a million rows."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import frozen
from PIL import Image

from imginav import LayoutSource
from imginav.data.loader import Data, everything
from imginav.manifest.tables import Train
from imginav.plugin.registry import installed
from imginav.seeds import Seeds
from imginav_benches.measuring import Scaled

IMAGES = 32

SIZES = [256, 512, 1024]

TAKEN_EVERY = 500
"""Of the rows of a list, the filter takes one in so many: their files are looked at, the others' are not."""


def open_set(**settings: object) -> LayoutSource:
    dataset = installed().find("dataset", settings.pop("type"))
    return dataset(**settings).open()


@pytest.fixture
def files(tmp_path: Path, scaled: Scaled) -> Callable[[int], Files]:
    """Draw layouts of a size, and write them as PNGs and the list of them."""

    def write(size: int) -> Files:
        source = open_set(type="procedural", count=scaled(IMAGES), image_size=scaled(size))
        paths = [tmp_path / f"{number}.png" for number in range(len(source))]
        for index, path in enumerate(paths):
            Image.fromarray(source.read(index)["rgb"]).save(path)
        listed = tmp_path / "layouts.csv"
        listed.write_text("layout_path,type\n" + "".join(f"{path.name},room\n" for path in paths))
        return Files(paths, listed, scaled(size))

    return write


@frozen
class Files:
    """Layouts of one size as image files."""

    paths: list[Path]
    listed: Path
    size: int

    def open(self) -> LayoutSource:
        source = open_set(type="layouts", manifest=self.listed, image_size=self.size)
        source.read(0)  # makes the table of colours, once for all
        return source

    def with_pillow(self) -> None:
        for path in self.paths:
            with Image.open(path) as image:
                np.asarray(image.convert("RGB"))


@pytest.mark.benchmark(group="loading images")
@pytest.mark.parametrize("size", SIZES)
def test_png(size: int, files: Callable[[int], Files], benchmark: Any, interleaved: Callable[..., None]) -> None:
    """Pixels, classes and label of each, from checked files; Pillow decodes the pixels alone."""
    drawn = files(size)
    source = drawn.open()
    benchmark.extra_info["images"] = len(drawn.paths)
    interleaved(lambda: [source.read(index) for index in range(len(source))], drawn.with_pillow, peer="Pillow")


@pytest.mark.benchmark(group="loading images")
@pytest.mark.parametrize("size", SIZES)
def test_prepared(
    size: int, files: Callable[[int], Files], tmp_path: Path, benchmark: Any, interleaved: Callable[..., None]
) -> None:
    """Batches of whole layouts as a validation gets them, from layouts that are prepared; in one process, as Pillow."""
    drawn = files(size)
    data = batches_of(drawn, tmp_path / "cache")
    benchmark.extra_info["images"] = len(drawn.paths)
    interleaved(lambda: list(data.validation_batches()), drawn.with_pillow, peer="Pillow")


@pytest.mark.benchmark(group="loading images")
@pytest.mark.parametrize("augment", [False, True], ids=["as they are", "turned"])
def test_prepared_crops(
    augment: bool,
    files: Callable[[int], Files],
    tmp_path: Path,
    benchmark: Any,
    interleaved: Callable[..., None],
    scaled: Scaled,
) -> None:
    """Batches of crops of 128 px as a training gets them, from prepared layouts of 512 px."""
    drawn = files(512)
    data = batches_of(drawn, tmp_path / "cache", crop=scaled(128), augment=augment)
    benchmark.extra_info["images"] = len(drawn.paths)
    interleaved(lambda: list(data.train_batches(1)), drawn.with_pillow, peer="Pillow")


@pytest.mark.benchmark(group="loading images")
@pytest.mark.parametrize("size", SIZES)
def test_preparing(
    size: int, files: Callable[[int], Files], tmp_path: Path, benchmark: Any, interleaved: Callable[..., None]
) -> None:
    """What is paid once for a set: checked, decoded and brought to the disk."""
    drawn = files(size)
    numbers = itertools.count()
    benchmark.extra_info["images"] = len(drawn.paths)
    interleaved(
        lambda: drawn.open().prepare(tmp_path / f"cache {next(numbers)}", lambda line: None),
        drawn.with_pillow,
        peer="Pillow",
    )


def batches_of(drawn: Files, cache: Path, **settings: object) -> Data:
    """Return prepared layouts, all of them to train on and all to validate."""
    dataset = installed().find("dataset", "layouts")(manifest=drawn.listed, image_size=drawn.size, **settings)
    source = dataset.open()
    source.prepare(cache, lambda line: None)
    optimizer = installed().find("optimizer", "adamw")()
    return Data(source, dataset, Train(epochs=1, optimizer=optimizer), Seeds(0), workers=0, split=everything(source))


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
