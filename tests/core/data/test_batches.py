"""What batches of layouts are: their order, crops and turns, and how bytes are put together."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imginav import UserError
from imginav.data.batches import SYMMETRIES, TrainingBatches, crop, fullest, in_order, layouts_in, rgb_of, stack, turn
from imginav.plugin.components import Sample
from imginav.seeds import Seeds
from imginav.training.trainer import Trainer
from imginav_datasets.classes import PALETTE

MakeTrainer = Callable[..., Trainer]


def places(height: int, width: int) -> Sample:
    """Return a sample whose every pixel says where it is; of wider integers than a layout has."""
    numbers: NDArray[Any] = np.arange(height * width, dtype=np.int64).reshape(height, width)
    return {"rgb": np.stack([numbers] * 3, axis=-1), "segmentation": numbers, "label": np.array(1)}


def batches(**changes: Any) -> TrainingBatches:
    values = {"indices": range(100, 150), "seeds": Seeds(7), "steps": 7, "batch_size": 8, "whole_batch_size": 2}
    return TrainingBatches(
        **{**values, "crop": 16, "crops": 1, "candidates": 1, "crop_epochs": 9, "augment": True, **changes}
    )


# Crops and turns


@given(st.integers(8, 40), st.integers(8, 40), st.integers(1, 8), st.floats(0, 1, exclude_max=True))
def test_a_crop_is_the_same_window_of_everything_that_has_pixels(
    height: int, width: int, side: int, place: float
) -> None:
    cut = crop(places(height, width), side, place, 1 - 2**-53 - place / 2)
    assert cut["rgb"].shape == (side, side, 3)
    assert np.array_equal(cut["rgb"][..., 0], cut["segmentation"])
    assert np.all(np.diff(cut["segmentation"], axis=1) == 1)
    assert np.all(np.diff(cut["segmentation"].astype(np.int64), axis=0) == width)
    assert cut["label"] == 1


def test_crops_come_from_everywhere_and_reach_all_edges() -> None:
    sample = places(10, 10)
    corners = {int(crop(sample, 8, y / 30, x / 30)["segmentation"][0, 0]) for y in range(30) for x in range(30)}
    assert corners == {10 * y + x for y in range(3) for x in range(3)}


@pytest.mark.parametrize("name", ["segmentation", "rgb"])
def test_of_several_places_the_one_is_cut_where_classes_meet_most_often(name: str) -> None:
    pixels = np.zeros((12, 12) if name == "segmentation" else (12, 12, 3), dtype=np.uint8)
    pixels[8:, 8:] = 1  # an edge of 7 pixels in the lower right corner
    pixels[0, 0] = 1  # a speck that one pixel in the upper left corner differs from
    places = ((0.0, 0.9), (0.0, 0.0), (0.99, 0.99), (0.98, 0.98))
    assert fullest({name: pixels}, 6, places) == places[2]
    assert fullest({name: pixels}, 6, places[:2]) == places[1]
    assert fullest({name: pixels}, 6, places[:1]) == places[0]


def test_candidates_are_drawn_for_each_crop_and_one_alone_is_drawn_as_before() -> None:
    draws = [draw for batch in batches(candidates=3).of(1) for draw in batch]
    assert {len(draw.places) for draw in draws} == {3}
    assert len({place for draw in draws for place in draw.places}) == 150
    places = torch.rand(50, 2, generator=Seeds(7).generator("crop", 1), dtype=torch.float64)
    assert [list(draw.places[0]) for batch in batches().of(1) for draw in batch] == places.tolist()


def test_the_eight_symmetries_of_a_square_are_all_there_and_the_same_of_everything() -> None:
    sample = places(5, 5)
    seen = set()
    for symmetry in range(SYMMETRIES):
        turned = turn(sample, symmetry)
        assert np.array_equal(turned["rgb"][..., 2], turned["segmentation"])
        assert turned["label"] == 1
        seen.add(turned["segmentation"].tobytes())
    square = sample["segmentation"]
    expected = [np.rot90(way, turns) for way in (square, square[:, ::-1]) for turns in range(4)]
    assert seen == {np.ascontiguousarray(way).tobytes() for way in expected}
    assert np.array_equal(turn(sample, 0)["segmentation"], square)


# The order


def test_an_epoch_is_the_same_each_time_and_another_one_is_not() -> None:
    assert list(batches().of(3)) == list(batches().of(3))
    one, other = ([draw.layout for batch in batches().of(epoch) for draw in batch] for epoch in (3, 4))
    assert sorted(one) == sorted(other) == list(range(100, 150))
    assert one != other


@given(st.integers(1, 12), st.integers(0, 7), st.booleans())
def test_what_is_left_of_an_epoch_is_the_end_of_it(epoch: int, start: int, augment: bool) -> None:
    whole = list(batches(augment=augment).of(epoch))
    assert list(batches(augment=augment).of(epoch, start)) == whole[start:]


def test_crops_and_turns_are_drawn_anew_for_each_epoch_and_apart_from_each_other() -> None:
    draws = {epoch: {d.layout: d for batch in batches().of(epoch) for d in batch} for epoch in (1, 2)}
    assert all(draws[1][layout].places != draws[2][layout].places for layout in draws[1])
    assert {draw.symmetry for draw in draws[1].values()} == set(range(SYMMETRIES))
    turns = [[draw.symmetry for draw in draws[epoch].values()] for epoch in (1, 2)]
    assert turns[0] != turns[1]
    # Without turns, the crops and the order are those that there were with them.
    plain = [draw for batch in batches(augment=False).of(1) for draw in batch]
    assert plain == [draws[1][draw.layout]._replace(symmetry=0) for draw in plain]


def test_the_last_epochs_show_whole_layouts_in_as_many_batches() -> None:
    training = batches(crop_epochs=2)
    of = {epoch: list(training.of(epoch)) for epoch in (2, 3, 4)}
    assert [len(epoch) for epoch in of.values()] == [training.steps] * 3 == [7] * 3
    assert {draw.crop for batch in of[2] for draw in batch} == {16}
    assert {draw.crop for batch in of[3] + of[4] for draw in batch} == {None}
    assert {len(batch) for batch in of[3]} == {2}
    seen = [[draw.layout for batch in of[epoch] for draw in batch] for epoch in (3, 4)]
    assert len(set(seen[0])) == len(seen[0]) == 14
    assert set(seen[0]) != set(seen[1])
    assert list(training.of(3, 5)) == of[3][5:]


def test_several_crops_of_each_layout_are_drawn_apart_from_each_other() -> None:
    draws = [draw for batch in batches(crops=3, steps=19).of(1) for draw in batch]
    assert sorted(draw.layout for draw in draws) == sorted([*range(100, 150)] * 3)
    assert len({draw.places for draw in draws}) == 150
    # They are spread over the epoch, and not one after the other.
    first = [draw.layout for draw in draws[:50]]
    assert 25 < len(set(first)) < 50


def test_layouts_in_their_order_fill_batches_one_after_the_other() -> None:
    parts = in_order([5, 3, 4, 9, 8], 2)
    assert [[draw.layout for draw in part] for part in parts] == [[5, 3], [4, 9], [8]]
    assert {(draw.crop, draw.symmetry) for part in parts for draw in part} == {(None, 0)}
    assert in_order([], 2) == []


# A run's batches


def as_bytes(trainer: Trainer, epoch: int, start: int = 0) -> list[dict[str, bytes]]:
    batches = trainer.data.train_batches(epoch, start)
    return [{name: tensor.numpy().tobytes() for name, tensor in batch.items()} for batch in batches]


def test_loading_processes_and_resuming_change_no_crop_and_no_turn(make_trainer: MakeTrainer) -> None:
    settings = ("data.crop=16", "data.augment=true", "data.whole_epochs=1", "train.epochs=2")
    alone, helped = make_trainer(*settings), make_trainer(*settings, "machine.workers=2")
    for epoch in (1, 2):
        assert as_bytes(helped, epoch) == as_bytes(alone, epoch)
        assert as_bytes(helped, epoch, 1) == as_bytes(alone, epoch)[1:]
    helped.data.close()


def test_turned_layouts_are_those_that_there_are(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("data.augment=true", "train.batch_size=1")
    plain = make_trainer("train.batch_size=1")
    ways = list(itertools.chain(*[trainer.data.train_batches(epoch) for epoch in (1, 2, 3)]))
    assert all(batch["segmentation"].is_contiguous() and batch["rgb"].is_contiguous() for batch in ways)
    known = {
        turn(trainer.data.source.read(index), way)["segmentation"].tobytes()
        for index in trainer.data.split.train
        for way in range(SYMMETRIES)
    }
    shown = {batch["segmentation"].numpy().tobytes() for batch in ways}
    assert shown <= known
    untouched = {batch["segmentation"].numpy().tobytes() for batch in plain.data.train_batches(1)}
    assert not shown <= untouched
    # What validates stays as it is.
    pairs = zip(trainer.data.validation_batches(), plain.data.validation_batches(), strict=True)
    assert all(torch.equal(one["rgb"], other["rgb"]) for one, other in pairs)


def test_whole_epochs_show_whole_layouts_and_their_names(make_trainer: MakeTrainer) -> None:
    data = make_trainer("data.crop=16", "data.whole_epochs=1", "train.epochs=3").data
    assert [next(data.train_batches(epoch))["segmentation"].shape for epoch in (2, 3)] == [(4, 16, 16), (1, 32, 32)]
    assert [len(list(data.train_batches(epoch))) for epoch in (2, 3)] == [data.steps_per_epoch] * 2 == [3, 3]
    (name,) = data.names_of_batch(3, 1)
    expected = data.source.read(int(name.removeprefix("block ")))
    batch = list(data.train_batches(3))[1]
    assert np.array_equal(batch["segmentation"][0].numpy(), expected["segmentation"])


@pytest.mark.parametrize(("crops", "steps"), [(1, 3), (2, 6), (5, 15)])
def test_an_epoch_has_a_step_for_each_batch_of_crops(make_trainer: MakeTrainer, crops: int, steps: int) -> None:
    trainer = make_trainer("data.crop=16", f"data.crops={crops}", "train.epochs=1")
    layouts = len(trainer.data.split.train)
    assert trainer.data.steps_per_epoch == steps == -(-layouts * crops // 4)
    trainer.fit()
    assert trainer.step == steps
    assert sum(len(batch["rgb"]) for batch in trainer.data.train_batches(1)) == layouts * crops


def test_few_layouts_are_passed_over_as_often_as_an_epoch_needs_steps(make_trainer: MakeTrainer) -> None:
    """Twelve training layouts are three batches of four: ten steps take four passes."""
    data = make_trainer("train.min_epoch_steps=10").data
    assert data.steps_per_epoch == 12
    seen = torch.cat([batch["rgb"] for batch in data.train_batches(1)])
    times = Counter(bytes(layout.numpy().tobytes()) for layout in seen)
    assert sorted(times.values()) == [4] * len(times)
    assert make_trainer("train.min_epoch_steps=3").data.steps_per_epoch == 3
    assert make_trainer("train.min_epoch_steps=7", "data.crop=16", "data.crops=2").data.steps_per_epoch == 12


def test_several_crops_need_a_crop(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"expected a crop, the side of each in pixels, with crops = 2, found none"):
        make_trainer("data.crops=2")
    with pytest.raises(UserError, match=r"expected a crop for the epochs before whole_epochs = 1, found none"):
        make_trainer("data.whole_epochs=1")


# Bytes


def flat(number: int, *, coloured: bool) -> Sample:
    segmentation = np.full((6, 6), number, dtype=np.uint8)
    sample = {"segmentation": segmentation, "label": np.array(number % 2, np.uint8)}
    return {"rgb": PALETTE.colour(segmentation), **sample} if coloured else sample


def test_a_batch_without_rgb_has_the_colours_of_its_classes() -> None:
    batch = stack([flat(number, coloured=False) for number in (3, 255)], PALETTE)
    assert set(batch) == {"segmentation", "label", "colours"}
    assert batch["colours"][3].tolist() == list(PALETTE.colours[3])
    assert batch["colours"][255].tolist() == [0, 0, 0]
    assert (layouts_in(batch), batch["label"].tolist()) == (2, [1, 1])


@pytest.mark.parametrize("which", [(True, False), (False, True), (True, True)])
def test_where_one_layout_has_rgb_the_batch_has_it_of_all(which: tuple[bool, bool]) -> None:
    batch = stack([flat(number, coloured=coloured) for number, coloured in enumerate(which)], PALETTE)
    assert set(batch) == {"rgb", "segmentation", "label"}
    assert [layout[0, 0].tolist() for layout in batch["rgb"]] == [list(PALETTE.colours[number]) for number in (0, 1)]
    assert layouts_in(batch) == 2


def test_pixels_of_a_sample_are_its_own_or_those_of_its_classes() -> None:
    assert np.array_equal(rgb_of(flat(4, coloured=False), PALETTE), rgb_of(flat(4, coloured=True), PALETTE))
    other = flat(4, coloured=True) | {"rgb": np.full((6, 6, 3), 7, dtype=np.uint8)}
    assert (rgb_of(other, PALETTE) == 7).all()


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_views_of_a_file_become_a_batch_of_their_own(symmetry: int) -> None:
    layout = np.random.default_rng(0).integers(0, 10, (130, 130), dtype=np.uint8)
    layout.setflags(write=False)
    turned = turn({"segmentation": layout, "rgb": PALETTE.colour(layout)}, symmetry)
    batch = stack([turned], PALETTE)
    assert np.array_equal(batch["segmentation"][0].numpy(), turned["segmentation"])
    assert np.array_equal(batch["rgb"][0].numpy(), turned["rgb"])
    assert batch["segmentation"].is_contiguous()
    batch["segmentation"].add_(1)  # writes to no file
    assert layout.max() < 10


def test_a_draw_is_small_on_its_way_to_a_loading_process() -> None:
    batch = next(batches().of(1))
    assert pickle.loads(pickle.dumps(batch)) == batch  # noqa: S301  # its own
    assert len(pickle.dumps(batch)) < 100 * len(batch)
