"""Layouts that are drawn from a seed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from imginav import LayoutSource
from imginav.plugin.components import Sample
from imginav_datasets import Procedural, procedural
from imginav_datasets.classes import LABELS, PALETTE
from imginav_datasets.drawing import draw_held_out_room, draw_held_out_scene, draw_room, draw_scene

Draw = Callable[[np.random.Generator, int], NDArray[np.uint8]]


def drawn(**keys: float | str) -> LayoutSource:
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


def test_the_held_out_style_draws_others_and_says_so() -> None:
    embedded, held_out = drawn(seed=3), drawn(seed=3, style="held_out")
    assert labels(embedded) == labels(held_out)
    assert not any(same(embedded.read(index), held_out.read(index)) for index in range(12))
    assert held_out.describe() == "12 embedded layouts of 64 px in the held-out style, drawn from seed 3"
    assert held_out.identity(4) == embedded.identity(4) + ", style held_out"


def test_a_fingerprint_tells_layouts_of_another_seed_share_or_edition_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = drawn(seed=3).identity(4)
    others = [drawn(seed=4).identity(4), drawn(seed=3).identity(5), drawn(seed=3, room_share=0.5).identity(4)]
    monkeypatch.setattr(procedural, "EDITION", procedural.EDITION + 1)
    assert len({identity, *others, drawn(seed=3).identity(4)}) == 5


@pytest.mark.parametrize(
    ("style", "draws"),
    [("embedded", (draw_room, draw_scene)), ("held_out", (draw_held_out_room, draw_held_out_scene))],
)
def test_rooms_and_scenes_are_drawn_in_the_style_and_as_their_labels_say(style: str, draws: tuple[Draw, Draw]) -> None:
    source = drawn(seed=3, style=style, room_share=0.5)
    assert set(labels(source)) == set(LABELS)
    for index in range(12):
        rng = np.random.default_rng((3, index))
        rng.random()  # whether it is a room
        sample = source.read(index)
        assert np.array_equal(sample["segmentation"], draws[int(sample["label"])](rng, 64))


@pytest.mark.parametrize("keys", [{"count": 1}, {"seed": -1}, {"image_size": 8}])
def test_numbers_that_are_too_small_are_refused(keys: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"expected a number (of at least|from)"):
        Procedural(**keys)  # type: ignore[arg-type]  # fields by name


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a number from 0 to 1, found 1.5"):
        Procedural(room_share=1.5)


# Prepared


def prepared(cache: Path, said: list[str], **keys: float) -> LayoutSource:
    source = Procedural(**{"image_size": 64, "count": 12, **keys}).open()  # type: ignore[arg-type]  # fields by name
    source.prepare(cache, said.append)
    return source


def assert_same_layouts(one: LayoutSource, other: LayoutSource) -> None:
    for index in range(len(other)):
        mine, its = one.read(index), other.read(index)
        assert list(mine) == ["segmentation", "label"]  # whose colours follow
        assert same(mine, {name: its[name] for name in mine})


@pytest.mark.parametrize("few", [0, 10**9])
def test_prepared_layouts_are_those_that_would_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(procedural, "FEW_PIXELS", few)  # from which on processes help
    said: list[str] = []
    assert_same_layouts(prepared(tmp_path, said), drawn())
    assert len(said) == 1
    assert_same_layouts(prepared(tmp_path, said), drawn())
    assert len(said) == 1


def test_more_layouts_and_other_ones_are_drawn_beside_those_that_are_there(tmp_path: Path) -> None:
    said: list[str] = []
    prepared(tmp_path, said)
    assert_same_layouts(prepared(tmp_path, said, seed=3), drawn(seed=3))
    assert_same_layouts(prepared(tmp_path, said, count=15), Procedural(image_size=64, count=15).open())
    prepared(tmp_path, said, room_share=0.8600000001)
    assert [line.partition(" layouts")[0].rpartition(" ")[2] for line in said] == ["12", "12", "3", "12"]


def test_prepared_layouts_are_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path, [])
    monkeypatch.setattr(procedural, "STYLES", {})
    source = prepared(tmp_path, [])
    assert [source.read(index)["segmentation"].shape for index in range(12)] == [(64, 64)] * 12


def test_without_a_folder_they_are_drawn_when_they_are_asked_for() -> None:
    source = drawn()
    source.prepare(None)
    assert same(source.read(3), drawn().read(3))


def test_a_script_that_forgets_its_guard_is_not_waited_for_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from imginav_datasets import Procedural\n"
        "source = Procedural(count=4200, image_size=64).open()\n"
        "source.prepare(Path('cache'))\n"
        "print(len(source.read(4199)['segmentation']))\n"
    )
    ended = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "64"
    assert "put what your script does under if __name__ == '__main__'" in ended.stderr
