"""Several processes of one run, as `imginav run --gpus` and torchrun start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from imginav_tests import commands
from imginav_tests.foreign_plugins import left_out
from imginav_tests.ranks import PHASE
from imginav_tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SWEEP = """
[sweep]
experiments.one = { "encoder.latent_channels" = 2 }
experiments.two = { "encoder.latent_channels" = 4 }
selector = { type = "best" }
"""


@pytest.fixture
def phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The library of the metrics takes seconds to import, and pages take long to draw.
    monkeypatch.setenv("IMGINAV_DISABLE_PLUGINS", left_out("metrics", "reports"))
    path = tmp_path / "shared.toml"
    path.write_text(PHASE)
    return path


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[commands.Command]:
    """Start imginav in a session of its own, of which nothing is to be left."""
    process = commands.Command(arguments, cwd=folder)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


@contextmanager
def torchrun(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start imginav in two processes of torchrun, in a session of its own, of which nothing is to be left."""
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "imginav"]
    process = subprocess.Popen(
        [sys.executable, *launched, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def record(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / "outputs/shared/run.json").read_text())
    except FileNotFoundError:
        return {"epoch": -1, "state": "none"}
    return told


def test_a_run_in_two_processes_leaves_on_a_signal_and_goes_on(phase: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGINAV_DISABLE_PLUGINS", left_out("metrics"))
    folder = phase.parent
    command = ["run", "shared.toml", "--gpus", "2", "--set", "train.epochs=300"]
    with started(folder, *command) as process:
        wait_until(lambda: record(folder)["epoch"] >= 1, process)
        process.send_signal(signal.SIGUSR1)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 85, errors
    assert output.count("2 processes: each global batch of 5 layouts is shared out, 2.5 to each") == 1
    assert errors == (
        "imginav: SIGUSR1: stops as soon as its state is saved\n"
        "imginav: stopped by SIGUSR1, state saved; run the same command to resume\n"
    )
    left = record(folder)
    assert left["state"] == "interrupted"
    # Another number of epochs is what may change.
    command[-1] = f"train.epochs={left['epoch'] + 1}"
    done = commands.run(command, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("shared was interrupted: it goes on") == 1
    assert done.stdout.count("look at") == 1
    assert record(folder)["state"] == "finished"
    assert (folder / "outputs/shared/report.html").is_file()


def test_a_process_that_is_killed_is_one_sentence(phase: Path) -> None:
    folder = phase.parent
    with started(folder, "run", "shared.toml", "--gpus", "2", "--set", "train.epochs=300") as process:
        wait_until(lambda: record(folder)["epoch"] >= 1, process)
        other = next(pid for pid in children(process.pid) if pid != record(folder)["process"])
        os.kill(other, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.strip() == (
        "imginav: process 1 of the run was ended by SIGKILL, as the system does when memory runs out; give the same "
        "command again"
    )
    assert record(folder)["state"] == "failed"


def children(parent: int) -> list[int]:
    """Return the processes that a process has started itself."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def test_processes_leave_where_the_one_that_has_started_them_is_gone(phase: Path) -> None:
    folder = phase.parent
    with started(folder, "run", "shared.toml", "--gpus", "2", "--set", "train.epochs=300") as process:
        wait_until(lambda: record(folder)["epoch"] >= 1, process)
        process.kill()
        wait_until(lambda: record(folder)["state"] == "interrupted")


def test_a_sweep_trains_each_experiment_in_two_processes(phase: Path) -> None:
    folder = phase.parent
    phase.write_text(PHASE + SWEEP)
    settings = ["--set", "train.epochs=1", "--set", "train.optimizer.learning_rate=0.3"]
    command = ["run", "shared.toml", "--gpus", "2", *settings]
    done = commands.run(command, cwd=folder, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 processes: each global batch") == 2
    assert done.stdout.count("recorded in") == 1
    assert (folder / "outputs/shares/winner.toml").is_file()


def test_torchrun_trains_a_run_and_hands_on_its_signal(phase: Path) -> None:
    folder = phase.parent
    with torchrun(folder, "run", "shared.toml", "--set", "train.epochs=300") as process:
        wait_until(lambda: record(folder)["epoch"] >= 1, process)
        process.terminate()
        output, errors = process.communicate(timeout=60)
    assert output.count("2 processes: each global batch of 5 layouts is shared out, 2.5 to each") == 1
    assert errors.count("imginav: stopped by SIGTERM, state saved; run the same command to resume") == 1
    assert record(folder)["state"] == "interrupted"


def test_torchrun_shows_a_fault_once(phase: Path) -> None:
    with torchrun(phase.parent, "run", "shared.toml", "--set", "train.batch_size=1") as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.count("train.batch_size = 1 is the global batch, of which 2 processes would not each have") == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (
            ["run", "shared.toml", "--gpus", "2", "--set", "machine.device=auto"],
            {"CUDA_VISIBLE_DEVICES": ""},
            "--gpus 2: this machine has none; ask for fewer, or try it out on the CPU with --set machine.device=cpu",
        ),
        (["run", "shared.toml", "--nodes", "2"], {}, "--nodes 2: takes --rendezvous HOST:PORT, with one of these"),
        (["run", "shared.toml", "--rendezvous", "a:1"], {}, "--rendezvous a:1: is for several machines; say how many"),
        (
            ["check", "shared.toml"],
            {"WORLD_SIZE": "2", "LOCAL_RANK": "0"},
            "torchrun has started several processes, and only imginav run trains in several; leave it out",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(
    phase: Path, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    done = commands.run(arguments, cwd=phase.parent, env={**os.environ, **environment}, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"imginav: {message}")
    assert done.stderr.count("\n") == 1


def test_a_sweep_under_torchrun_is_refused(phase: Path) -> None:
    phase.write_text(PHASE + SWEEP)
    with torchrun(phase.parent, "run", "shared.toml") as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.count("torchrun has started 2 processes, which train one experiment; name it by --only") == 1
