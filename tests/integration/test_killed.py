"""A run that is killed, asked to leave or hindered, and given again, ends as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imginav.plugin.checkpoint import load_checkpoint, sha256_of
from imginav.runs.lock import lock_file
from imginav_tests import commands, tiny
from imginav_tests.csv_tables import read_table
from imginav_tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

HALF_WRITTEN, BEFORE, AFTER = MOMENTS = ("half of ", "before the rename to ", "after the rename to ")
"""What can happen to a file, as struck.py says it."""

PHASE = tiny.changed(
    tiny.PHASE,
    """
phase = { id = "1.5", experiment = "final", group = "finals" }
data = { type = "procedural", count = 16 }
encoder.variational = true
losses.kld.weight = 1e-3

[train]
epochs = 24
optimizer.learning_rate = 2e-3
lr_schedule = { type = "cosine", warmup = 0.1 }

[callbacks]
gradient_clipping = {}
early_stopping = { patience = 30 }
ema = { decay = 0.9 }
samples = { every = 2, count = 2, tile = 32 }
metrics_csv = {}
step_log = { rows = 7 }
checkpoint = { every = 4, keep = 2 }
progress = {}

[evaluation.metrics]
palette = false  # what these two count with takes longest to import
segmentation = false

[machine]
threads = 1
""",
)

TIMES = {"seconds", "images_per_second", "latency", "evaluated"}

IN_TRAINING = (
    "batch", "batch", "before step", "after step", "after step",
    "final_checkpoint_latest.pt", "final_checkpoint_latest.pt", "final_checkpoint_previous.pt",
    "final_checkpoint_best.pt", "final_checkpoint_epoch_", "final_metrics.csv", "final_metrics.csv",
    "run.json", "manifest.toml", "epoch_0",
)  # fmt: skip
"""When a run is killed while it trains: at a step, or at a file."""

IN_EVALUATION = (
    "evaluation.json",
    "evaluation_layouts.csv",
    "curves.png",
    "environment.json",
    "interpolation.png",
    "worst.png",
    "report.html",
    "comparison.csv",
)
"""And at which files when it has trained."""


def imginav(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the phase."""
    return commands.run(["run", "phase.toml", *arguments], cwd=folder, timeout=120)


def struck(folder: Path, moment: str, number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the phase in a process that is killed at a moment."""
    return commands.run(["run", "phase.toml", *arguments], cwd=folder, strike=(moment, number), timeout=120)


def whole(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the phase to its end."""
    done = imginav(folder)
    assert done.returncode == 0, done.stderr
    return done


def timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, (list, tuple)) else value


def result(folder: Path) -> dict[str, Any]:
    """Return everything that a run leaves, by file, without times."""
    found: dict[str, Any] = {}
    for path in sorted(path for part in ("final", "finals") for path in (folder / "outputs" / part).rglob("*")):
        name = str(path.relative_to(folder / "outputs"))
        if path.suffix == ".pt":
            checkpoint = load_checkpoint(path)  # each of them is whole
            content = [checkpoint.model, checkpoint.epoch, timeless(checkpoint.metrics), timeless(checkpoint.training)]
            # The one before the latest may be from anywhere in the last epoch.
            found[name] = None if "previous" in path.name else sha256_of(content)
        elif path.suffix == ".csv" and path.name != "comparison.csv":
            found[name] = read_table(path, without=TIMES)
        elif path.name == "evaluation.json":
            found[name] = timeless(json.loads(path.read_text()))
        elif path.suffix == ".png" and "samples" in path.parts:
            found[name] = path.read_bytes()
        elif path.is_file():
            found[name] = None
    return found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run leaves if nothing happens to it."""
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "phase.toml").write_text(PHASE)
    whole(folder)
    return result(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "phase.toml").write_text(PHASE)
    return tmp_path


def moments() -> list[tuple[str, int]]:
    """Return 23 random moments, those in training in any order: which one, and how often it comes before."""
    draw = random.Random(3)  # noqa: S311  # the same ones each time

    def at(name: str) -> tuple[str, int]:
        if "." not in name and "_" not in name:
            return name, draw.randint(1, 9)
        # What is only renamed is never half written.
        kinds = MOMENTS if "previous" not in name else (BEFORE, AFTER)
        return f"{draw.choice(kinds)}{name}", draw.randint(1, 2) if IN_TRAINING.count(name) > 1 else 1

    training = [at(name) for name in IN_TRAINING]
    draw.shuffle(training)
    return [*training, *(at(name) for name in IN_EVALUATION)]


def test_the_moments_are_many_and_of_every_kind() -> None:
    found = moments()
    assert len(found) == 23
    assert all(any(moment.startswith(kind) for moment, _ in found) for kind in (HALF_WRITTEN, BEFORE, AFTER))


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    folder: Path, unbroken: dict[str, Any]
) -> None:
    for attempt, (moment, number) in enumerate(moments()):
        # Saved at each step or at the end of epochs, in turn.
        every_step = ("--set", "callbacks.checkpoint.minutes=0") if attempt % 2 else ()
        done = struck(folder, moment, number, *every_step)
        assert done.returncode == -signal.SIGKILL, f"{moment} {number}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
    for part in (folder / "outputs" / "finals").glob(".*.part"):  # of a winner that was half written, hours ago
        os.utime(part, (0, 0))
    done = whole(folder)
    assert result(folder) == unbroken
    assert not list(folder.rglob("*.part"))
    assert not lock_file(folder / "outputs" / "final").exists()
    # Once there was a checkpoint, the run has never started anew.
    assert not list(folder.glob("outputs/final.*/*.pt"))


def start(folder: Path, *arguments: str) -> commands.Command:
    return commands.Command(["run", "phase.toml", *arguments], cwd=folder, one_stream=True)


def epochs(folder: Path) -> int:
    """Return how many epochs the metrics tell of."""
    try:
        return len((folder / "outputs" / "final" / "final_metrics.csv").read_text().splitlines()) - 1
    except OSError:
        return 0


def test_signals_save_and_leave_with_a_status_to_requeue_on(folder: Path, unbroken: dict[str, Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        before = epochs(folder)
        process = start(folder, "--set", "machine.workers=1")
        wait_until(lambda before=before: epochs(folder) > before, process)  # type: ignore[misc]  # a default to bind it
        os.killpg(process.pid, number)  # as schedulers do, to loading processes as well
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 85, said
        assert f"imginav: stopped by {number.name}, state saved; run the same command to resume" in said
        assert "Traceback" not in said
        assert json.loads((folder / "outputs" / "final" / "run.json").read_text())["state"] == "interrupted"
    assert "final was interrupted: it goes on" in whole(folder).stdout
    assert result(folder) == unbroken


def test_a_time_limit_leaves_by_itself_and_the_run_gets_to_its_end(folder: Path) -> None:
    # A second is over before the first step; each attempt takes one, and one of each validation.
    arguments = ("--set", "train.time_limit='1s'", "--set", "train.epochs=1")
    for _ in range(6):
        done = imginav(folder, *arguments)
        if done.returncode == 0:
            break
        assert done.returncode == 85, done.stderr
        assert "imginav: stopped by its time limit, state saved; run the same command to resume" in done.stderr
    assert done.returncode == 0
    assert epochs(folder) == 1


def test_a_second_command_on_the_same_run_is_refused(folder: Path) -> None:
    process = start(folder, "--set", "train.epochs=100000")
    wait_until(lambda: epochs(folder) > 0, process)
    second = imginav(folder)
    assert second.returncode == 2
    assert re.search(rf"imginav: final is being written by process {process.pid} on .*; wait for it", second.stderr)
    process.kill()
    process.communicate()


def test_two_sigints_leave_at_once(folder: Path) -> None:
    # A step that takes long: without the second signal it would be waited for.
    slow = ("data.image_size=512", "encoder.base_channels=64", "train.batch_size=12", "data.crop=512")
    process = subprocess.Popen(
        [sys.executable, "-m", "imginav", "run", "phase.toml", *(part for s in slow for part in ("--set", s))],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: (folder / "outputs" / "final" / "run.json").exists(), process)
    time.sleep(1)
    assert process.stdout
    os.kill(process.pid, signal.SIGINT)
    said = ""
    while "again: at once" not in said:
        said += process.stdout.readline()
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
    assert said.splitlines()[-1] == "imginav: SIGINT: stops as soon as its state is saved; Ctrl-C again: at once"
