"""docs/phase2.md, from its first block to its last, as a user goes through it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imginav_datasets.classes import PALETTE
from imginav_tests import commands

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "phase2.md"

SETTINGS = (
    "data.type=layouts",
    "data.manifest=layouts.csv",
    "data.image_size=64",
    "encoder.base_channels=16",
    "encoder.latent_channels=4",
    "encoder.downsampling_steps=2",
    "train.batch_size=4",
    "train.epochs=1",
    "callbacks.samples.tile=64",
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def draw_layouts(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["layout_path,type"]
    for number in range(12):
        tiles = PALETTE.colour(rng.integers(0, len(PALETTE), (8, 8), dtype=np.uint8))
        Image.fromarray(tiles).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'room' if number % 3 else 'scene'}")
    (folder / "layouts.csv").write_text("\n".join(lines) + "\n")


def ended(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, f"{shlex.join(done.args)}\n{done.stdout}\n{done.stderr}"


def test_every_block_of_the_document_runs(tmp_path: Path) -> None:
    draw_layouts(tmp_path)
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    ended(commands.run(["run", ROOT / "phases" / "1_5.toml", *sets], cwd=tmp_path))
    # What the examples of single files call their own.
    checkpoint = tmp_path / "outputs" / "phase1_5_AE_final" / "phase1_5_AE_final_checkpoint_best.pt"
    for name in ("best.pt", "evaluation.json"):
        shutil.copy(checkpoint if name == "best.pt" else checkpoint.with_name(name), tmp_path / name)
    shutil.copy(tmp_path / "0.png", tmp_path / "layout.png")
    shutil.copy(tmp_path / "1.png", tmp_path / "other.png")
    python: list[str] = []
    number = 0
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL):
        if language == "python":
            python.append(block)
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "imginav"
            ended(commands.run(arguments, cwd=tmp_path))
            number += 1
    code = [sys.executable, "-W", "error", "-c", "\n".join(python)]
    ended(subprocess.run(code, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False))
    assert (number, len(python)) == (10, 5)
