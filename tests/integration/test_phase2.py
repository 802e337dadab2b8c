"""docs/phase2.md, from its first block to its last, as a user goes through it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imginav_tests import commands
from imginav_tests.phase1_5 import PHASE, SETTINGS, write_noise

DOCUMENT = Path(__file__).parents[2] / "docs" / "phase2.md"

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def ended(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, f"{shlex.join(done.args)}\n{done.stdout}\n{done.stderr}"


def test_every_block_of_the_document_runs(tmp_path: Path) -> None:
    settings = ["data.type=layouts", *SETTINGS, f"data.manifest={write_noise(tmp_path).name}", "train.epochs=1"]
    sets = [part for setting in settings for part in ("--set", setting)]
    ended(commands.run(["run", PHASE, *sets], cwd=tmp_path))
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
    assert (number, len(python)) == (13, 5)
