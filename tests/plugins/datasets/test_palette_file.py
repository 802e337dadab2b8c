"""Palettes in files, and what is wrong with some of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from imginav import UserError
from imginav.plugin.palette import Palette
from imginav_datasets.palette_file import read_palette

RIGHT = 'background = "floor"\n[classes]\nwall = [200, 200, 200]\nfloor = [240, 240, 240]\n"night stand" = [0, 1, 2]\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "palette.toml"


def test_classes_have_their_indices_in_the_order_of_the_file(path: Path) -> None:
    path.write_text(RIGHT)
    assert read_palette(path) == Palette(
        names=("wall", "floor", "night stand"),
        colours=((200, 200, 200), (240, 240, 240), (0, 1, 2)),
        background="floor",
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[200, 200, 200]",
            "[200, 200, 256]",
            "three whole numbers from 0 to 255, found [200, 200, 256] @ classes.wall",
        ),
        ("[200, 200, 200]", "[200, 200]", "three whole numbers from 0 to 255, found [200, 200] @ classes.wall"),
        (
            "[200, 200, 200]",
            "[200, 200, true]",
            "three whole numbers from 0 to 255, found [200, 200, True] @ classes.wall",
        ),
        (
            "[200, 200, 200]",
            "[200, 200, 1.5]",
            "three whole numbers from 0 to 255, found [200, 200, 1.5] @ classes.wall",
        ),
        ("[200, 200, 200]", '"c8c8c8"', "three whole numbers from 0 to 255, found 'c8c8c8' @ classes.wall"),
        ("[200, 200, 200]", "[240, 240, 240]", "floor and wall have the same colour [240, 240, 240]"),
        ('"floor"', '"flor"', "background, the one that fills what is empty, found 'flor', did you mean 'floor'?"),
        ('background = "floor"', "", "background, the one that fills what is empty, found None"),
        ("[classes]", "[colours]", "no key 'colours'"),
        ("[classes]", "[colours]", "expected 2 to 255 classes in [classes], each as name = [red, green, blue]"),
        ("[classes]", "[classes", "is no TOML file: "),
    ],
)
def test_a_wrong_file_is_refused_with_its_fault(path: Path, old: str, new: str, message: str) -> None:
    assert old in RIGHT
    path.write_text(RIGHT.replace(old, new))
    with pytest.raises(UserError) as caught:
        read_palette(path)
    assert message in str(caught.value)
    assert all(line.startswith(f"data.palette = {str(path)!r}: ") for line in str(caught.value).splitlines())


def test_all_faults_come_at_once(path: Path) -> None:
    path.write_text('background = "x"\nname = 1\n[classes]\na = [1]\nb = [2, 3, 4]\n')
    with pytest.raises(UserError) as caught:
        read_palette(path)
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_there_a_folder_and_bytes_are_refused(path: Path) -> None:
    with pytest.raises(UserError, match="no such file; name the TOML file"):
        read_palette(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no TOML file"):
        read_palette(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_palette(path.parent)


def test_more_classes_than_there_are_indices_are_refused(path: Path) -> None:
    classes = "\n".join(f"c{number} = [{number // 256}, {number % 256}, 0]" for number in range(256))
    path.write_text(f'background = "c0"\n[classes]\n{classes}\n')
    with pytest.raises(UserError, match="expected 2 to 255 classes"):
        read_palette(path)
