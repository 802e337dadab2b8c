"""The command line, run as a user runs it."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imginav_datasets.classes import PALETTE
from imginav_tests import commands

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def imginav(tmp_path: Path) -> Run:
    """Run `imginav` in an empty working folder; settings follow the arguments."""

    def run(*arguments: str | Path, settings: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        sets = [part for setting in settings for part in ("--set", setting)]
        return commands.run([*arguments, *sets], cwd=tmp_path)

    return run


@pytest.fixture
def write_list() -> Callable[[Path, Sequence[dict[str, str]]], None]:
    """Write a list of layouts as a CSV file."""

    def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    return write


@pytest.fixture
def layouts(tmp_path: Path, write_list: Callable[[Path, Sequence[dict[str, str]]], None]) -> Path:
    """Return a list of twelve layouts of 64 px, each a walled room with two pieces of furniture."""
    folder = tmp_path / "set of layouts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        segmentation = np.full((64, 64), 9, dtype=np.uint8)
        segmentation[6:58, 6:58] = 8
        segmentation[10:54, 10:54] = 9
        for furniture in rng.choice(8, size=2, replace=False):
            top, left = rng.integers(10, 34, 2)
            segmentation[top : top + 18, left : left + 18] = furniture
        Image.fromarray(PALETTE.colour(segmentation)).save(folder / f"layout {number}.png")
        rows.append({"layout_path": f"layout {number}.png", "type": "scene" if number % 4 == 0 else "room"})
    write_list(folder / "layouts.csv", rows)
    return folder / "layouts.csv"
