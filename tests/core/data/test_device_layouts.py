"""Layouts that are kept on the device give the batches that are read one by one; here the device is the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imginav import DataSpec, UserError
from imginav.data.batches import SYMMETRIES, Draw, LayoutReader, Place, in_order
from imginav.data.device_layouts import DeviceLayouts
from imginav.plugin.components import LayoutSource, Sample
from imginav.training.trainer import Trainer
from imginav_datasets.classes import PALETTE

MakeTrainer = Callable[..., Trainer]

SIDE = 12
CPU = torch.device("cpu")
SHARES = st.floats(0, 1, exclude_max=True)


class Drawn(LayoutSource):
    """Random layouts, of the kinds that are named by a letter each: `c` classes, `p` pixels as well, `x` unreadable."""

    spec = DataSpec(palette=PALETTE, labels=("a", "b"), targets=("segmentation", "label"))

    def __init__(self, kinds: str, classes: bool = True) -> None:
        self.kinds = kinds
        self.classes = classes

    def __len__(self) -> int:
        return len(self.kinds)

    def read(self, index: int) -> Sample:
        if self.kinds[index] == "x":
            raise UserError(f"layout {index} is torn")
        generator = np.random.default_rng(index)
        sample = {"label": generator.integers(0, 2, (), dtype=np.uint8)}
        if self.classes:  # mostly of one class, so that crops differ in how often classes meet
            classes = generator.integers(0, len(PALETTE), (SIDE, SIDE), dtype=np.uint8)
            sample["segmentation"] = np.where(generator.random((SIDE, SIDE)) < 0.2, classes, 1).astype(np.uint8)
        if self.kinds[index] == "p":
            sample["rgb"] = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        return sample

    def name(self, index: int) -> str:
        return str(index)


def kept(source: LayoutSource) -> DeviceLayouts:
    reader = LayoutReader(source)
    one_by_one = (reader[draws] for draws in in_order(range(len(source)), 1))
    return DeviceLayouts(one_by_one, len(source), source.spec.palette, CPU)


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        assert torch.equal(actual[name], tensor), name


@given(
    kinds=st.text("cpx", min_size=1, max_size=6),
    crop=st.one_of(st.none(), st.integers(1, SIDE)),
    candidates=st.integers(1, 3),
    drawn=st.lists(
        st.tuples(
            st.integers(0, 5),
            st.lists(st.tuples(SHARES, SHARES), min_size=3, max_size=3),
            st.integers(0, SYMMETRIES - 1),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_a_batch_is_bit_for_bit_the_one_that_is_read(
    kinds: str, crop: int | None, candidates: int, drawn: Sequence[tuple[int, list[Place], int]]
) -> None:
    source = Drawn(kinds)
    draws = [Draw(n % len(kinds), crop, tuple(places[:candidates]), symmetry) for n, places, symmetry in drawn]
    expected, actual = LayoutReader(source)[draws], kept(source).batch(draws)
    assert_same(actual.layouts, expected.layouts)
    assert actual.indices == expected.indices
    assert actual.unreadable == expected.unreadable


def test_images_without_classes_are_kept_as_pixels() -> None:
    source = Drawn("ppppp", classes=False)
    draws = [Draw(index, 7, ((0.3, 0.9), (0.7, 0.1)), symmetry=index + 2) for index in (4, 0, 3, 3)]
    assert_same(kept(source).batch(draws).layouts, LayoutReader(source)[draws].layouts)


@pytest.mark.parametrize("data", [["data.crop=16", "data.crop_candidates=3"], ["data.augment=true"]])
def test_a_training_sees_the_same_batches_wherever_its_layouts_are(make_trainer: MakeTrainer, data: list[str]) -> None:
    held, read = (make_trainer(*data, f"machine.layouts={where}").data for where in ("device", "host"))
    for epoch in (1, 2):
        for actual, expected in zip(held.train_batches(epoch), read.train_batches(epoch), strict=True):
            assert_same(actual, expected)
    assert len(list(held.train_batches(2, 1))) == held.steps_per_epoch - 1
    for actual, expected in zip(held.validation_batches(), read.validation_batches(), strict=True):
        assert_same(actual, expected)


def test_nothing_is_read_any_more_once_the_layouts_are_kept(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_trainer("machine.layouts=device").data
    monkeypatch.setattr(LayoutReader, "__getitem__", lambda *_: pytest.fail("it reads"))
    assert sum(len(batch["rgb"]) for batch in data.train_batches(1)) == len(data.split.train)
    assert sum(len(batch["rgb"]) for batch in data.validation_batches()) == len(data.split.validation)


def test_layouts_stay_where_they_are_unless_a_gpu_has_room_for_them(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_trainer().data
    assert data._on_device is None
    layouts = 16 * (32 * 32 * 4 + 1)
    for free, fits in ((2 * layouts, True), (2 * layouts - 2, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 0))
        assert data._fit(16, torch.device("cuda")) is fits
    assert not data._fit(16, CPU)
