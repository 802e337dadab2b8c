"""Sweeps and studies from the command line: run, killed, resumed, failed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli
from PIL import Image

from imginav.plugin.checkpoint import load_checkpoint
from imginav.plugin.discovery import DISABLE
from imginav_tests import commands, distributions, tiny
from imginav_tests.csv_tables import TIMES, read_table
from imginav_tests.foreign_plugins import left_out
from imginav_tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.usefixtures("no_pages")]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

BASE = tiny.changed(
    tiny.BASE,
    """
data = { type = "procedural", count = 12 }
decoder.heads.segmentation = false
losses.segmentation = false
train.optimizer.learning_rate = 1e-2

[callbacks]
metrics_csv = {}
checkpoint = {}
samples = { tile = 32 }
progress = {}

[evaluation]
pairs = 1
metrics = { palette = false, segmentation = false }  # what they count with takes longest to import

[machine]
device = "cpu"
threads = 1
""",
)

CHANNELS = """
extends = "base.toml"
phase = { id = "1.1", experiment = "ae", group = "channels", title = "Channels" }

[sweep]
selector = { type = "smallest_good_enough" }

[sweep.experiments]
L1 = { "encoder.latent_channels" = 1 }
L2 = { "encoder.latent_channels" = 2 }
L3 = { "encoder.latent_channels" = 4 }
"""

FINAL = """
extends = "base.toml"
phase = { id = "1.5", experiment = "final_ae", group = "final", title = "Final" }
winners."1.1" = ["encoder.latent_channels"]
"""


@pytest.fixture
def phases(tmp_path: Path) -> Path:
    """A folder with a sweep and a phase that takes its winner."""
    folder = tmp_path / "phases"
    folder.mkdir()
    for name, text in (("base", BASE), ("channels", CHANNELS), ("a_final", FINAL)):
        (folder / f"{name}.toml").write_text(text)
    return folder


def record(tmp_path: Path, run: str) -> dict[str, Any]:
    path = tmp_path / "outputs" / run / "run.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def rows(path: Path) -> list[dict[str, str]]:
    return read_table(path, without=TIMES)


def start(tmp_path: Path, *arguments: str) -> commands.Command:
    """Start imginav in a process group of its own, as a terminal or a scheduler does."""
    return commands.Command(arguments, cwd=tmp_path, one_stream=True)


def test_a_study_runs_the_chain_and_a_second_time_trains_nothing(
    imginav: Run, phases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DISABLE, left_out())  # nothing of its own: with pages
    done = imginav("study", phases)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n  weights of ") == 4  # the summary of each experiment
    shared = tmp_path / "outputs" / "channels"
    assert {
        "comparison.csv",
        "comparison_curves.png",
        "comparison_layouts.png",
        "comparison_quality.png",
        "report.html",
        "winner.toml",
        "ae_L1_metrics.csv",
        "ae_L1_report.html",
    } <= {path.name for path in shared.iterdir()}
    with Image.open(shared / "comparison_layouts.png") as grid:
        assert grid.width > 4 * 256  # the input and three reconstructions
    table = {row["experiment"]: row for row in rows(shared / "comparison.csv")}
    assert [row["latent_dimensions"] for row in table.values()] == ["64", "128", "256"]
    assert [row["state"] for row in table.values()] == ["finished"] * 3

    winner = tomli.loads((shared / "winner.toml").read_text())
    name, channels = winner["winner"], winner["values"]["encoder.latent_channels"]
    assert table[name]["won"] == "True"
    final = tomli.loads((tmp_path / "outputs" / "final_ae" / "manifest.toml").read_text())
    assert final["encoder"]["latent_channels"] == channels
    checkpoint = load_checkpoint(tmp_path / "outputs" / "final_ae" / "final_ae_checkpoint_best.pt")
    assert tomli.loads(checkpoint.manifest)["lineage"]["1.1"]["winner"] == name

    explained = imginav("explain", tmp_path / "outputs" / "final_ae")
    line = f"encoder.latent_channels = {channels} · phase 1.1, {name} won: val_mse "
    assert line in explained.stdout
    assert "· rule smallest_good_enough 10 %" in explained.stdout

    weights = {path: path.read_bytes() for path in (tmp_path / "outputs").rglob("*.pt")}
    status = imginav("status", phases)
    assert [line.split()[:2] for line in status.stdout.splitlines() if line.strip().startswith("1.")] == [
        ["1.1", "L1"],
        ["1.1", "L2"],
        ["1.1", "L3"],
        ["1.5", "final_ae"],
        ["1.1", "Channels"],
        ["1.5", "Final"],
    ]
    assert "3 of 3" in status.stdout
    again = imginav("study", phases)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is finished already; --resume never trains it anew") == 4
    assert {path: path.read_bytes() for path in (tmp_path / "outputs").rglob("*.pt")} == weights


def test_a_sweep_that_is_killed_in_its_third_experiment_goes_on_there(
    imginav: Run, phases: Path, tmp_path: Path
) -> None:
    text = CHANNELS + 'L4 = { "encoder.latent_channels" = 6 }\nL5 = { "encoder.latent_channels" = 8 }\n'
    (phases / "channels.toml").write_text(text.replace("[sweep]", "[train]\nepochs = 12\n[sweep]"))
    process = start(tmp_path, "run", "phases/channels.toml")
    wait_until(lambda: record(tmp_path, "ae_L3").get("epoch", 0) >= 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    status = imginav("status", phases)
    assert "2 of 5" in status.stdout
    assert ["1.1", "L3", "-", "-", "cut", "off"] in [line.split()[:6] for line in status.stdout.splitlines()]
    finished = (tmp_path / "outputs" / "ae_L2" / "ae_L2_checkpoint_best.pt").read_bytes()
    done = imginav("run", "phases/channels.toml")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "finished already" in line] == [
        "ae_L1 is finished already; --resume never trains it anew",
        "ae_L2 is finished already; --resume never trains it anew",
    ]
    assert "ae_L3 was cut off: it goes on after epoch" in done.stdout
    assert (tmp_path / "outputs" / "ae_L2" / "ae_L2_checkpoint_best.pt").read_bytes() == finished
    assert not (tmp_path / "outputs" / "ae_L3.1").exists()
    assert len(tomli.loads((tmp_path / "outputs" / "channels" / "winner.toml").read_text())["experiments"]) == 5

    # What was cut off ends as if it had not been.
    resumed = rows(tmp_path / "outputs" / "ae_L3" / "ae_L3_metrics.csv")
    assert [row["epoch"] for row in resumed] == [str(epoch) for epoch in range(1, 13)]
    unbroken = imginav("run", "phases/channels.toml", "--only", "L3", "--resume", "never")
    assert unbroken.returncode == 0, unbroken.stderr
    assert rows(tmp_path / "outputs" / "ae_L3" / "ae_L3_metrics.csv") == resumed


def test_an_experiment_that_fails_stops_no_other_and_nobody_wins_unless_asked_for(
    imginav: Run, phases: Path, tmp_path: Path
) -> None:
    text = CHANNELS.replace(
        "[sweep.experiments]", '[sweep.experiments]\nL0 = { "train.optimizer.learning_rate" = 1e30 }'
    )
    (phases / "channels.toml").write_text(text)
    done = imginav("study", phases)
    assert done.returncode == 1
    assert "ae_L0 failed: training stopped before step" in done.stdout
    assert "because its loss is not finite" in done.stdout
    assert "3 of 4 experiments of phase 1.1 are finished, and no winner is declared" in done.stdout
    assert "phase 1.5 has no winner: waits for phase 1.1" in done.stdout
    assert not (tmp_path / "outputs" / "channels" / "winner.toml").exists()
    assert not (tmp_path / "outputs" / "final_ae").exists()

    asked = imginav("winner", "phases/channels.toml", "--of-finished")
    assert asked.returncode == 0, asked.stderr
    winner = tomli.loads((tmp_path / "outputs" / "channels" / "winner.toml").read_text())
    assert winner["winner"] in {"L1", "L2", "L3"}
    assert winner["experiments"]["L0"]["state"] == "failed"


def test_a_study_finds_what_is_wrong_with_its_last_phase_before_the_first_trains(
    imginav: Run, phases: Path, tmp_path: Path
) -> None:
    (phases / "a_final.toml").write_text(FINAL + "[decoder]\nlatent_channels = 3\n")
    done = imginav("study", phases)
    assert done.returncode == 2
    assert "1 fault found" in done.stderr
    assert "decoder.latent_channels = 3 contradicts encoder.latent_channels = 2" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_one_experiment_by_name_or_as_an_element_of_a_job_array_and_the_last_declares_the_winner(
    imginav: Run, phases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = imginav("run", "phases/channels.toml", "--only", "L2")
    assert first.returncode == 0, first.stderr
    assert "1 of 3 experiments of phase 1.1 are finished" in first.stdout
    monkeypatch.setenv("LSB_JOBID", "77")
    monkeypatch.setenv("LSB_JOBINDEX", "1")
    assert imginav("run", "phases/channels.toml", "--index", "auto").returncode == 0
    assert record(tmp_path, "ae_L1")["state"] == "finished"
    assert record(tmp_path, "ae_L1")["job"] == "lsf 77 1"
    assert not (tmp_path / "outputs" / "channels" / "winner.toml").exists()
    assert imginav("run", "phases/channels.toml", "--index", "3").returncode == 0
    assert (tmp_path / "outputs" / "channels" / "winner.toml").exists()


def test_several_at_a_time_leave_what_one_after_the_other_leaves(imginav: Run, phases: Path, tmp_path: Path) -> None:
    done = imginav("run", "phases/channels.toml", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    log = tmp_path / "outputs" / "channels" / "logs" / "ae_L1.log"
    assert "epoch 2/2" in log.read_text()
    assert "epoch 2/2" not in done.stdout
    together = rows(tmp_path / "outputs" / "ae_L1" / "ae_L1_metrics.csv")
    assert imginav("run", "phases/channels.toml", "--only", "L1", "--resume", "never").returncode == 0
    assert rows(tmp_path / "outputs" / "ae_L1" / "ae_L1_metrics.csv") == together


def test_experiments_do_not_outlive_the_command_that_started_them(imginav: Run, phases: Path, tmp_path: Path) -> None:
    (phases / "channels.toml").write_text(CHANNELS.replace("[sweep]", "[train]\nepochs = 100000\n[sweep]"))
    process = start(tmp_path, "run", "phases/channels.toml")
    wait_until(lambda: record(tmp_path, "ae_L1").get("epoch", 0) >= 1, process)
    # Two commands cannot train the same run.
    second = imginav("run", "phases/channels.toml", "--only", "L1")
    assert second.returncode == 2
    assert re.search(r"imginav: ae_L1 is being written by process \d+ on .*; wait for it, or end it", second.stderr)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: record(tmp_path, "ae_L1")["state"] == "interrupted")


@pytest.mark.parametrize(("jobs", "number", "to_all"), [(1, signal.SIGINT, True), (2, signal.SIGTERM, False)])
def test_a_sweep_that_is_asked_to_leave_starts_no_other_and_goes_on_another_time(
    phases: Path, tmp_path: Path, jobs: int, number: signal.Signals, to_all: bool
) -> None:
    (phases / "channels.toml").write_text(CHANNELS.replace("[sweep]", "[train]\nepochs = 100000\n[sweep]"))
    process = start(tmp_path, "run", "phases/channels.toml", "--jobs", str(jobs))
    running = [f"ae_L{index + 1}" for index in range(jobs)]
    wait_until(lambda: all(record(tmp_path, run).get("epoch", 0) >= 1 for run in running), process)
    # A terminal interrupts all processes; a scheduler may ask the command alone.
    (os.killpg if to_all else os.kill)(process.pid, number)
    assert process.wait(timeout=60) == 85
    for run in running:
        assert record(tmp_path, run)["state"] == "interrupted"
        assert load_checkpoint(tmp_path / "outputs" / run / f"{run}_checkpoint_latest.pt").training
    assert not (tmp_path / "outputs" / f"ae_L{jobs + 1}").exists()
    assert not list((tmp_path / "outputs").glob(".*.lock"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR2])
def test_a_sweep_is_asked_to_leave_while_its_first_experiment_is_starting(
    phases: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(  # an interpreter of its own, as the time that its start takes is what is tested
        [sys.executable, "-m", "imginav", "run", "phases/channels.toml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    said = []
    while not said or "ae_L1 starts" not in said[-1]:
        said.append(process.stdout.readline())
    os.killpg(process.pid, number)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 85, rest
    assert "ae_L1 stopped by SIG" in rest  # its own, or the SIGTERM by which the command asks it
    assert "Traceback" not in rest


def test_a_time_limit_is_of_the_whole_command(imginav: Run, phases: Path, tmp_path: Path) -> None:
    distributions.write_pauses(tmp_path)

    def run(*settings: str, only: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        names = [part for name in only for part in ("--only", name)]
        return imginav("run", "phases/channels.toml", *names, settings=["train.time_limit='1s'", *settings])

    first = run("callbacks.pause.step_seconds=0.5")
    assert first.returncode == 85
    assert "ae_L1 stopped by its time limit" in first.stdout
    assert "imginav: stopped by its time limit, state saved; run the same command to resume" in first.stderr
    # Trained to its end, an experiment is followed by no other when the time of the command is up.
    (phases / "channels.toml").write_text(CHANNELS.replace("[sweep]", "[train]\nepochs = 1\n[sweep]"))
    for _ in range(4):  # it may be up between the last step and the end
        done = run("callbacks.pause.end_seconds=1.0", "train.batch_size=16", only=["L2", "L3"])
        assert done.returncode == 85
        if "ae_L2 is finished" in done.stdout:
            break
    assert record(tmp_path, "ae_L2")["state"] == "finished"
    assert record(tmp_path, "ae_L3") == {}


def test_a_checkpoint_to_go_on_from_is_for_one_experiment(imginav: Run, phases: Path) -> None:
    done = imginav("run", "phases/channels.toml", "--resume", "a.pt")
    assert done.returncode == 2
    assert "--resume a.pt: is one checkpoint for 3 experiments; take one of them with --only" in done.stderr


def test_winners_of_other_layouts_are_refused_by_a_later_phase(imginav: Run, phases: Path, tmp_path: Path) -> None:
    assert imginav("run", "phases/channels.toml").returncode == 0
    done = imginav("run", "phases/a_final.toml", settings=["data.count=16"])
    assert done.returncode == 2
    assert "phase 1.1, whose winner" in done.stderr
    assert "was found on other layouts (12 embedded layouts of 32 px, drawn from seed 0; SHA-256" in done.stderr
    assert not (tmp_path / "outputs" / "final_ae").exists()
    without = imginav("run", "phases/a_final.toml", settings=["data.count=16", 'winners."1.1"=false'])
    assert without.returncode == 0, without.stderr
    required = imginav("run", "phases/a_final.toml", "--require-winners", settings=["output.shared='elsewhere'"])
    assert required.returncode == 2
    assert "--require-winners: elsewhere holds no winner of phase 1.1" in required.stderr


def test_a_person_overrules_the_rule_and_the_later_phase_follows(imginav: Run, phases: Path, tmp_path: Path) -> None:
    assert imginav("run", "phases/channels.toml").returncode == 0
    done = imginav("winner", "phases/channels.toml", "--set-to", "L3", "--because", "our UNet has 4 channels")
    assert done.returncode == 0, done.stderr
    assert imginav("run", "phases/a_final.toml").returncode == 0
    explained = imginav("explain", tmp_path / "outputs" / "final_ae" / "final_ae_checkpoint_latest.pt")
    assert "encoder.latent_channels = 4 · phase 1.1, L3 set by a person, because 'our UNet has 4 channels'" in (
        explained.stdout
    )
