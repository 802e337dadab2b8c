"""Split, order, crops and batches."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imginav import DataSpec, LayoutSource, UserError
from imginav.data.loader import Data, split_layouts
from imginav.plugin.components import Sample
from imginav.plugin.palette import Palette
from imginav.seeds import Seeds
from imginav.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


class Scenes(LayoutSource):
    """Layouts that know nothing but their scenes."""

    spec = DataSpec(palette=Palette(names=(), colours=(), background=""), labels=(), targets=())

    def __init__(self, scenes: list[str | None]) -> None:
        self._scenes = scenes

    def __len__(self) -> int:
        return len(self._scenes)

    def read(self, index: int) -> Sample:
        raise UserError(f"layout {index} cannot be read")

    def name(self, index: int) -> str:
        return str(index)

    def scene(self, index: int) -> str | None:
        return self._scenes[index]


@given(
    scenes=st.lists(st.sampled_from(["a", "b", "c", "d", "e", None]), min_size=6, max_size=60),
    share=st.floats(0.2, 0.8),
    seed=st.integers(0, 2**32),
)
def test_a_scene_is_never_split_apart(scenes: list[str | None], share: float, seed: int) -> None:
    source = Scenes([*scenes, "x", "y", "z"])
    try:
        split = split_layouts(source, share, "scene", Seeds(seed))
    except UserError:
        return  # a scene so large that it leaves nothing to validate
    assert sorted(split.train + split.validation) == list(range(len(source)))
    sides = ({source.scene(i) for i in side} - {None} for side in (split.train, split.validation))
    assert not set.intersection(*sides)
    assert split.by == "scene"


def test_the_split_has_the_share_asked_for_and_depends_on_the_seed_alone() -> None:
    source = Scenes([None] * 100)
    split = split_layouts(source, 0.8, "scene", Seeds(42))
    assert (len(split.train), len(split.validation)) == (80, 20)
    assert split.by == "layout"
    assert split == split_layouts(source, 0.8, "scene", Seeds(42))
    assert split != split_layouts(source, 0.8, "scene", Seeds(43))


def test_by_layout_scenes_may_be_split_apart() -> None:
    split = split_layouts(Scenes(["one"] * 10), 0.5, "layout", Seeds(0))
    assert (len(split.train), len(split.validation), split.by) == (5, 5, "layout")


def test_a_split_with_an_empty_side_is_refused() -> None:
    with pytest.raises(UserError, match=r"train.split = 0.5 leaves 9 layouts to train on and 0 to validate.*9 in 1 gr"):
        split_layouts(Scenes(["one"] * 9), 0.5, "scene", Seeds(0))


def test_each_epoch_shows_each_training_layout_once_in_an_order_of_its_own(make_trainer: MakeTrainer) -> None:
    data = make_trainer("data.count=32").data
    epochs = [torch.cat([b["rgb"] for b in data.train_batches(epoch)]) for epoch in (1, 2, 1)]
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    as_sets = [{tuple(image.flatten().tolist()) for image in epoch} for epoch in epochs]
    assert as_sets[0] == as_sets[1]


def test_validation_shows_whole_layouts_in_one_order_and_as_many_pixels_a_batch(make_trainer: MakeTrainer) -> None:
    data = make_trainer("data.crop=16").data
    assert next(iter(data.train_batches(1)))["rgb"].shape == (4, 16, 16, 3)
    batches = list(data.validation_batches())
    assert {batch["rgb"].shape for batch in batches} == {(1, 32, 32, 3)}
    again = list(data.validation_batches())
    assert all(torch.equal(a["rgb"], b["rgb"]) for a, b in zip(batches, again, strict=True))
    samples = data.validation_samples(2)["rgb"]
    assert torch.equal(samples, torch.cat([batch["rgb"] for batch in batches[:2]]))


def test_loading_processes_change_nothing(make_trainer: MakeTrainer) -> None:
    alone = make_trainer("data.crop=16").data
    helped = make_trainer("data.crop=16", "machine.workers=2").data
    for epoch in (1, 2):
        for a, b in zip(alone.train_batches(epoch), helped.train_batches(epoch), strict=True):
            assert all(torch.equal(a[name], b[name]) for name in a)
    helped.close()


def test_loading_processes_end_with_the_run(make_trainer: MakeTrainer) -> None:
    data = make_trainer("machine.workers=2").data
    list(data.train_batches(1))
    list(data.validation_batches())
    assert len(multiprocessing.active_children()) == 4
    data.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_layout_that_cannot_be_read_is_one_sentence_from_any_process(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    trainer = make_trainer(f"machine.workers={workers}")
    monkeypatch.setattr(type(trainer.data.source), "read", Scenes([None] * 16).read.__func__)  # type: ignore[attr-defined]
    with pytest.raises(UserError) as caught:
        next(iter(trainer.data.train_batches(1)))
    said = str(caught.value)
    del caught  # its traceback holds the loading process, for which torch would wait
    trainer.data.close()
    assert said.startswith("layout ")
    assert "Traceback" not in said


def break_layouts(monkeypatch: pytest.MonkeyPatch, data: Data, *broken: int) -> None:
    """Let these layouts be unreadable, and the others have their number in the corner."""
    read = type(data.source).read

    def read_or_not(self: LayoutSource, index: int) -> Sample:
        if index in broken:
            raise UserError(f"layout {index} cannot be read")
        sample = read(self, index)
        sample["rgb"][0, 0] = index
        return sample

    monkeypatch.setattr(type(data.source), "read", read_or_not)


def numbers(batches: Iterable[dict[str, Tensor]]) -> list[list[int]]:
    """Return the numbers of the layouts of each batch."""
    return [batch["rgb"][:, 0, 0, 0].tolist() if batch else [] for batch in batches]


def order_of(data: Data, epoch: int) -> list[list[int]]:
    """Return the numbers of the layouts that an epoch's batches are to have."""
    batches = [data.names_of_batch(epoch, number) for number in range(data.steps_per_epoch)]
    return [[int(name.removeprefix("block ")) for name in batch] for batch in batches]


def sentences(layouts: Iterable[int]) -> list[str]:
    return [f"layout {index} cannot be read" for index in layouts]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_read_is_left_out_of_its_batch_and_nothing_else_changes(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    data = make_trainer("data.on_bad=skip", f"machine.workers={workers}").data
    assert (data.split, order_of(data, 2)) == (make_trainer().data.split, order_of(make_trainer().data, 2))
    broken = [data.split.train[0], data.split.train[7], data.split.validation[0]]
    break_layouts(monkeypatch, data, *broken)
    for _ in range(2):  # each is counted once, however often it is met
        expected = [[index for index in batch if index not in broken] for batch in order_of(data, 2)]
        assert numbers(data.train_batches(2)) == expected
        assert numbers(data.validation_batches()) == [list(data.split.validation[1:])]
        met = [index for batch in order_of(data, 2) for index in batch if index in broken] + broken[2:]
        assert data.left_out == sentences(met)
    data.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_of_which_nothing_can_be_read_is_empty_in_training_and_none_in_validation(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    data = make_trainer("data.on_bad=skip", f"machine.workers={workers}", "train.batch_size=2").data
    broken = [*order_of(data, 1)[1], *data.split.validation[:2]]
    break_layouts(monkeypatch, data, *broken)
    assert [len(batch) for batch in numbers(data.train_batches(1))] == [2, 0, 2, 2, 2, 2]
    assert [len(batch) for batch in numbers(data.train_batches(1, 1))] == [0, 2, 2, 2, 2]
    assert [len(batch) for batch in numbers(data.validation_batches())] == [2]
    assert data.left_out == sentences(broken)
    data.close()


def test_a_pass_of_which_nothing_can_be_read_is_an_error_in_any_case(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_trainer("data.on_bad=skip").data
    first = order_of(data, 1)[0][0]
    break_layouts(monkeypatch, data, *range(16))
    message = "none of the layouts can be read any more, so that data.on_bad = 'skip' leaves nothing: "
    with pytest.raises(UserError, match=f"{message}layout {first} cannot be read"):
        list(data.train_batches(1))
    for whole in (lambda: list(data.validation_batches()), lambda: data.validation_samples(2)):
        with pytest.raises(UserError, match=message):
            whole()
    # The end of an epoch alone says nothing of what was read before.
    assert list(data.train_batches(1, 2)) == [{}]
    assert list(data.train_batches(1, 3)) == []


def test_the_first_validation_layouts_are_the_first_that_can_be_read(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_trainer("data.on_bad=skip").data
    first, *others = data.split.validation
    break_layouts(monkeypatch, data, first)
    assert numbers([data.validation_samples(2)]) == [others[:2]]
    assert data.left_out == sentences([first])
    assert len(data.validation_samples(9)["rgb"]) == len(others)
    data = make_trainer().data
    with pytest.raises(UserError, match=f"layout {first} cannot be read"):
        data.validation_samples(2)


def test_what_opening_left_out_stands_first(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_trainer().data.source
    monkeypatch.setattr(type(source), "left_out", lambda self: ("layout x is no layout",))
    data = make_trainer("data.on_bad=skip").data
    break_layouts(monkeypatch, data, data.split.validation[0])
    data.validation_samples(1)
    assert data.left_out == ["layout x is no layout", *sentences(data.split.validation[:1])]
