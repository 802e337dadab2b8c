"""Layouts that are drawn from a seed."""

from __future__ import annotations

import numpy as np
import pytest

from imginav import LayoutSource
from imginav.components import Sample
from imginav_datasets import Procedural
from imginav_datasets.classes import LABELS, PALETTE


def drawn(**keys: float) -> LayoutSource:
    return Procedural(image_size=64, count=12, **keys).open()  # type: ignore[arg-type]  # fields by name


def same(a: Sample, b: Sample) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def labels(source: LayoutSource) -> list[str]:
    return [LABELS[int(source.read(index)["label"])] for index in range(len(source))]


def test_a_layout_has_pixels_classes_and_a_label_that_fit_together() -> None:
    source = drawn()
    assert len(source) == 12
    assert source.spec.targets == ("rgb", "segmentation", "label")
    for index in range(len(source)):
        sample = source.read(index)
        assert {name: (array.shape, array.dtype) for name, array in sample.items()} == {
            "rgb": ((64, 64, 3), np.uint8),
            "segmentation": ((64, 64), np.uint8),
            "label": ((), np.uint8),
        }
        assert sample["segmentation"].max() < len(PALETTE)
        assert np.array_equal(PALETTE.match(sample["rgb"], 0), sample["segmentation"])


def test_the_same_seed_draws_the_same_layouts_in_any_order_and_each_time() -> None:
    first, second = drawn(seed=3), drawn(seed=3)
    backwards = {index: second.read(index) for index in reversed(range(12))}
    for index in range(12):
        assert same(first.read(index), backwards[index])
        assert same(first.read(index), first.read(index))


def test_a_layout_does_not_depend_on_how_many_there_are() -> None:
    few, many = Procedural(image_size=64, count=2).open(), Procedural(image_size=64, count=9000).open()
    assert same(few.read(1), many.read(1))


def test_two_seeds_and_two_numbers_draw_different_layouts() -> None:
    first, second = drawn(seed=0), drawn(seed=1)
    layouts = [source.read(index)["segmentation"].tobytes() for source in (first, second) for index in range(12)]
    assert len(set(layouts)) == len(layouts)


def test_the_share_of_rooms_is_what_was_asked_for() -> None:
    assert labels(drawn(room_share=1.0)) == ["room"] * 12
    assert labels(drawn(room_share=0.0)) == ["scene"] * 12
    mixed = labels(Procedural(image_size=16, count=150, room_share=0.7).open())
    assert 0.6 < mixed.count("room") / len(mixed) < 0.8


def test_rooms_are_the_larger_part_as_in_the_users_set() -> None:
    assert Procedural().room_share == pytest.approx(43_208 / (43_208 + 6_807), abs=0.01)


def test_it_says_what_it_is() -> None:
    source = drawn(seed=3)
    assert source.describe() == "12 embedded layouts of 64 px, drawn from seed 3"
    assert source.name(4) == "drawn layout 4"
    assert source.scene(4) is None
    assert Procedural.embedded


@pytest.mark.parametrize("keys", [{"count": 1}, {"seed": -1}, {"image_size": 8}])
def test_numbers_that_are_too_small_are_refused(keys: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"expected a number (of at least|from)"):
        Procedural(**keys)  # type: ignore[arg-type]  # fields by name


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a number from 0 to 1, found 1.5"):
        Procedural(room_share=1.5)
