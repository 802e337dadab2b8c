"""docs/handoff.md and docs/phase2.md, from the first block to the last, as a user goes through them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imginav_datasets.classes import PALETTE
from imginav_tests import commands
from imginav_tests.phase1_5 import PHASE, SETTINGS, write_noise

ROOT = Path(__file__).parents[2]

TINY = ("--steps", "2", "--batch-size", "2", "--samples", "2", "--sampling-steps", "2")
"""Of the program that trains a ControlNet."""

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def ended(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, f"{shlex.join(done.args)}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Phase 1.5 has been trained for an epoch, on noise of 64 px."""
    folder = tmp_path_factory.mktemp("trained")
    settings = ["data.type=layouts", *SETTINGS, f"data.manifest={write_noise(folder).name}", "train.epochs=1"]
    sets = [part for setting in settings for part in ("--set", setting)]
    ended(commands.run(["run", PHASE, *sets], cwd=folder))
    return folder


@pytest.fixture
def workplace(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "workplace")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    text = (ROOT / "docs" / page).read_text()
    yield from re.findall(r"^```(sh|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def lines(page: str) -> list[list[str]]:
    """Return the commands of a page, as words."""
    return [shlex.split(line) for language, block in blocks(page) if language == "sh" for line in block.splitlines()]


def run_python(page: str, folder: Path, *options: str) -> int:
    """Run the Python blocks of a page as one program, and return how many there are."""
    code = [block for language, block in blocks(page) if language == "python"]
    command = [sys.executable, *options, "-c", "\n".join(code)]
    ended(subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False))
    return len(code)


def test_every_block_about_the_hand_off_runs(workplace: Path) -> None:
    # What the examples of single files call their own.
    checkpoint = workplace / "outputs" / "phase1_5_AE_final" / "phase1_5_AE_final_checkpoint_best.pt"
    for name in ("best.pt", "evaluation.json"):
        shutil.copy(checkpoint if name == "best.pt" else checkpoint.with_name(name), workplace / name)
    shutil.copy(workplace / "0.png", workplace / "layout.png")
    shutil.copy(workplace / "1.png", workplace / "other.png")
    for name in ("plans/2.png", "more/floor 1/3.png"):
        (workplace / name).parent.mkdir(parents=True)
        shutil.copy(workplace / Path(name).name, workplace / name)
    found = lines("handoff.md")
    for program, *arguments in found:
        assert program == "imginav"
        ended(commands.run(arguments, cwd=workplace))
    assert (len(found), run_python("handoff.md", workplace, "-W", "error")) == (15, 6)


def test_the_tutorial_gets_from_an_autoencoder_to_controlnet_samples(workplace: Path) -> None:
    shutil.copytree(ROOT / "examples" / "phase2", workplace / "examples" / "phase2")
    (pip, *_), (_, *run), *others = lines("phase2.md")
    assert (pip, run) == ("pip", ["run", "phases/1_5.toml", "--trial"])  # the fixture has run the phase
    for program, *arguments in others:
        if program == "imginav":
            ended(commands.run(arguments, cwd=workplace))
        else:
            assert program == "python"
            command = [sys.executable, *arguments, *TINY]
            ended(subprocess.run(command, cwd=workplace, capture_output=True, text=True, timeout=600, check=False))
    assert len(others) == 3
    with Image.open(workplace / "trained" / "samples.png") as picture:
        sheet = np.array(picture)
    assert sheet.shape == (3 * 64, 2 * 64, 3)
    walls, samples, layouts = np.split(sheet, 3)
    assert set(np.unique(walls)) == {0, 255}
    is_wall = (layouts == PALETTE.colours[PALETTE.names.index("wall")]).all(axis=2)
    assert np.array_equal(walls[..., 0] == 255, is_wall)
    distances = np.abs(samples.reshape(-1, 1, 3).astype(int) - np.array(PALETTE.colours)).sum(axis=2)
    assert distances.min(axis=1).max() <= 3  # decoded by the palette's head: what is sampled is a layout
    assert run_python("phase2.md", workplace) == 1
    with Image.open(workplace / "layout_with_one_wall.png") as picture:
        assert picture.size == (64, 64)
