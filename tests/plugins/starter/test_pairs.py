"""`imginav pairs`: layouts with conditioning images and captions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image

from imginav import UserError
from imginav.plugin.registry import Registry
from imginav_starter import pairs
from imginav_starter.pairs import PairsRequest, write_pairs

MakeCheckpoint = Callable[..., Path]
Write = Callable[..., Path]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def write(make_checkpoint: MakeCheckpoint, registry: Registry, tmp_path: Path, said: list[str]) -> Write:
    """Write the layouts of the tiny phase: blocks of the class red, of which 12 are trained on."""

    def run(checkpoint: Path | None = None, **changes: Any) -> Path:
        model = checkpoint or make_checkpoint(evaluated=False)
        request = PairsRequest(model=model, to=tmp_path / "pairs", condition=("red",))
        request = attrs.evolve(request, **changes)
        write_pairs(request, registry, said.append)
        return request.to

    return run


def rows(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def pixels(path: Path) -> Any:
    return np.array(Image.open(path))


def test_each_layout_has_its_condition_and_caption(write: Write, said: list[str]) -> None:
    folder = write()
    found = {name: rows(folder / name) for name in ("train", "validation")}
    assert {name: len(part) for name, part in found.items()} == {"train": 12, "validation": 4}
    names = [row["image_file_name"] for part in found.values() for row in part]
    assert sorted(names) == [f"images/{number:06}.png" for number in range(16)]  # none is in both parts
    for name, part in found.items():
        for row in part:
            layout = pixels(folder / name / row["image_file_name"])
            condition = pixels(folder / name / row["conditioning_image_file_name"])
            red = (layout == (228, 26, 28)).all(axis=2)
            assert red.any()
            assert not red.all()
            assert np.array_equal(condition, np.where(red, 255, 0)[..., None].repeat(3, axis=2))
            number = int(Path(row["image_file_name"]).stem)
            assert row["text"] == ("a scene" if number % 2 else "a room")
    assert said[1:3] == ["  train  12 layouts", "  validation  4 layouts"]


def test_several_classes_are_one_condition_and_a_limit_takes_the_first(write: Write) -> None:
    folder = write(condition=("red", "white"), limit=3)
    assert [len(rows(folder / name)) for name in ("train", "validation")] == [3, 3]
    row = rows(folder / "train")[0]
    assert (pixels(folder / "train" / row["conditioning_image_file_name"]) == 255).all()


def test_without_a_condition_there_are_layouts_and_captions_alone(write: Write) -> None:
    folder = write(condition=())
    assert {tuple(sorted(row)) for row in rows(folder / "train")} == {("image_file_name", "text")}
    assert sorted(path.name for path in (folder / "train").iterdir()) == ["images", "metadata.jsonl"]


def test_a_list_of_others_is_all_to_train_on(
    write: Write, make_checkpoint: MakeCheckpoint, write_layouts: Callable[..., Path]
) -> None:
    first = write_layouts([{"layout_path": f"{n}.png", "scene_id": str(n), "type": "room"} for n in range(4)])
    listed = ("data.type=layouts", f"data.manifest={first}", "data.image_size=32")
    checkpoint = make_checkpoint(*listed, evaluated=False)
    folder = write(checkpoint, condition=("wall",), data=first)
    assert len(rows(folder / "train")) == 4
    assert not (folder / "validation").exists()
    assert {row["text"] for row in rows(folder / "train")} == {"a room"}


def test_layouts_that_cannot_be_read_end_it_or_are_left_out(
    write: Write, make_checkpoint: MakeCheckpoint, write_layouts: Callable[..., Path], tmp_path: Path, said: list[str]
) -> None:
    listed = write_layouts([{"layout_path": f"{n}.png", "scene_id": str(n), "type": "room"} for n in range(4)])
    settings = ("data.type=layouts", f"data.manifest={listed}", "data.image_size=32")
    checkpoint = make_checkpoint(*settings, evaluated=False)
    picture = (listed.parent / "2.png").read_bytes()
    (listed.parent / "2.png").write_bytes(picture[: len(picture) // 2])
    with pytest.raises(UserError, match=r"2\.png"):
        write(checkpoint, condition=("wall",), data=listed)
    assert not [path for path in tmp_path.iterdir() if "pairs" in path.name]
    folder = write(checkpoint, condition=("wall",), data=listed, settings=("data.on_bad=skip",))
    assert len(rows(folder / "train")) == 3
    assert any(line.startswith("left out: ") and "2.png" in line for line in said)


@pytest.mark.parametrize(
    ("settings", "condition", "complaint"),
    [
        ((), ("wall",), r"--condition wall: the layouts have no such class, but red, white"),
        (("data.type=layouts", "data.palette=false", "data.image_size=32"), ("wall",), r"the layouts have no classes"),
    ],
)
def test_what_cannot_be_a_condition_is_refused(
    write: Write,
    make_checkpoint: MakeCheckpoint,
    write_layouts: Callable[..., Path],
    settings: tuple[str, ...],
    condition: tuple[str, ...],
    complaint: str,
) -> None:
    if settings:
        listed = write_layouts([{"layout_path": f"{n}.png", "scene_id": str(n), "type": "room"} for n in range(4)])
        without = ("decoder.heads.segmentation=false", "losses.segmentation=false")
        settings = (*settings, f"data.manifest={listed}", *without)
    with pytest.raises(UserError, match=complaint):
        write(make_checkpoint(*settings, evaluated=False), condition=condition)


def test_a_place_that_is_taken_is_refused(write: Write, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(evaluated=False)
    (tmp_path / "pairs").write_text("mine")
    with pytest.raises(UserError, match=r"--out .*pairs: is there already; name another folder"):
        write(checkpoint)
    with pytest.raises(UserError, match=r"--out .*pairs/below: cannot be made: .*; name another folder"):
        write(checkpoint, to=tmp_path / "pairs" / "below")


def test_nothing_is_left_of_a_full_disk(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pairs, "condition_image", full)
    with pytest.raises(UserError, match=r"No space left on device"):
        write()
    assert not [path for path in tmp_path.iterdir() if "pairs" in path.name]
