"""The pictures of what the autoencoder rebuilds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imginav_callbacks import EarlyStopping, Samples
from imginav_datasets.classes import PALETTE
from imginav_evaluation.pictures import CAPTION_HEIGHT, FRAME, GAP
from imginav_heads import RgbHead, SegmentationHead
from imginav_losses import MSE, CrossEntropy

MakeRun = Callable[..., Any]

TILE = 32


def tile(path: Path, row: int, column: int, side: int = TILE) -> NDArray[np.uint8]:
    """Cut one layout out of a picture."""
    top, left = CAPTION_HEIGHT + row * (side + GAP), GAP + column * (side + GAP)
    with Image.open(path) as picture:
        return np.asarray(picture)[top : top + side, left : left + side]


def drawn(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "samples").iterdir())


def test_input_reconstruction_and_segmentation_stand_side_by_side(make_run: MakeRun) -> None:
    run = make_run({"samples": Samples(every=1, count=2, columns=1, tile=TILE)}, epochs=1)
    trainer = run.fit()
    path = run.folder.samples(1)
    with Image.open(path) as picture:
        assert picture.size == (GAP + 3 * (TILE + GAP), CAPTION_HEIGHT + 2 * (TILE + GAP))
    for row, index in enumerate(trainer.data.split.validation):
        assert np.array_equal(tile(path, row, 0), trainer.data.source.read(index)["rgb"])
        batch = trainer.device.batch({"rgb": trainer.data.validation_samples(2)["rgb"][row : row + 1]})
        outputs = trainer.model(batch["rgb"])
        rebuilt = (outputs["rgb"][0].detach().permute(1, 2, 0).numpy() + 1) * 127.5
        assert np.abs(tile(path, row, 1) - rebuilt).max() <= 0.501
        classes = outputs["segmentation"][0].argmax(dim=0).numpy().astype(np.uint8)
        assert np.array_equal(tile(path, row, 2), PALETTE.colour(classes))


@pytest.mark.parametrize("side", [16, 50, 80])
def test_a_tile_of_another_size_has_no_colours_that_were_not_there(make_run: MakeRun, side: int) -> None:
    run = make_run({"samples": Samples(every=1, count=1, tile=side)}, epochs=1)
    trainer = run.fit()
    source = trainer.data.source.read(trainer.data.split.validation[0])["rgb"]
    colours = {tuple(c) for c in source.reshape(-1, 3).tolist()}
    shown = {tuple(c) for c in tile(run.folder.samples(1), 0, 0, side).reshape(-1, 3).tolist()}
    assert shown == colours
    segmentation = {tuple(c) for c in tile(run.folder.samples(1), 0, 2, side).reshape(-1, 3).tolist()}
    assert segmentation <= set(PALETTE.colours)


def test_layouts_stand_in_columns_and_the_last_row_may_be_short(make_run: MakeRun) -> None:
    run = make_run({"samples": Samples(every=1, count=99, columns=9, tile=TILE)}, epochs=1)
    trainer = run.fit()
    first, second = trainer.data.split.validation
    path = run.folder.samples(1)
    assert np.array_equal(tile(path, 0, 0), trainer.data.source.read(first)["rgb"])
    assert np.array_equal(tile(path, 0, 3), trainer.data.source.read(second)["rgb"])


def test_the_same_layouts_are_drawn_each_time_and_only_every_few_epochs(make_run: MakeRun) -> None:
    run = make_run({"samples": Samples(every=2, count=2, columns=1, tile=TILE)}, epochs=5)
    run.fit()
    assert drawn(run.folder.root) == ["epoch_002.png", "epoch_004.png", "epoch_005.png"]
    pictures = [run.folder.samples(epoch) for epoch in (2, 4, 5)]
    for row in (0, 1):
        inputs = [tile(path, row, 0) for path in pictures]
        assert all(np.array_equal(inputs[0], other) for other in inputs)
        assert not np.array_equal(tile(pictures[0], row, 1), tile(pictures[2], row, 1))


def test_the_weights_that_a_run_leaves_are_drawn(make_run: MakeRun) -> None:
    callbacks = {"samples": Samples(every=9, count=1, tile=TILE), "early_stopping": EarlyStopping(patience=1)}
    run = make_run(callbacks, epochs=9)
    trainer = run.fit([1.0, 2.0])
    assert drawn(run.folder.root) == ["epoch_001.png"]
    images = trainer.device.batch(trainer.data.validation_samples(1))["rgb"]
    rebuilt = (trainer.model(images)["rgb"][0].detach().permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(tile(run.folder.samples(1), 0, 1) - rebuilt).max() <= 0.501


def test_the_phases_folder_has_the_same_pictures(make_run: MakeRun) -> None:
    run = make_run({"samples": Samples(every=1, count=1, tile=TILE)}, epochs=1)
    run.fit()
    copy = run.folder.shared / "samples" / "tiny_epoch_001.png"
    assert copy.read_bytes() == run.folder.samples(1).read_bytes()


def test_drawing_changes_nothing_in_the_training(make_run: MakeRun) -> None:
    samples = Samples(every=1, count=1, tile=TILE)
    drawn_run = make_run({"samples": samples}, variational=True).fit()
    plain_run = make_run(variational=True).fit()
    assert [row["val_loss"] for row in drawn_run.history] == [row["val_loss"] for row in plain_run.history]


def caption_pixels(path: Path, column: int) -> NDArray[np.bool_]:
    """Where the caption over a tile is not the plain frame."""
    left = GAP + column * (128 + GAP)
    with Image.open(path) as picture:
        return (np.asarray(picture)[:CAPTION_HEIGHT, left : left + 128] != FRAME).any(axis=-1)


def test_each_caption_names_the_tile_below_it(make_run: MakeRun) -> None:
    samples = {"samples": Samples(every=1, count=1, tile=128)}
    both = make_run(samples, epochs=1)
    both.fit()
    all_three = [caption_pixels(both.folder.samples(1), column) for column in range(3)]
    assert all(caption.any() for caption in all_three)
    segmentation_alone = make_run(
        samples,
        epochs=1,
        heads={"segmentation": SegmentationHead()},
        losses={"segmentation": CrossEntropy(output="segmentation", target="segmentation")},
    )
    segmentation_alone.fit()
    path = segmentation_alone.folder.samples(1)
    assert np.array_equal(caption_pixels(path, 0), all_three[0])
    assert np.array_equal(caption_pixels(path, 1), all_three[2])
    rgb_alone = make_run(samples, epochs=1, heads={"rgb": RgbHead()}, losses={"mse": MSE()})
    rgb_alone.fit()
    assert np.array_equal(caption_pixels(rgb_alone.folder.samples(1), 1), all_three[1])
