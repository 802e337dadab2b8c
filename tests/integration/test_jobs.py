"""Phases as jobs, to their end: on a real Slurm, and on what stands in for LSF, OpenLava and PBS."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from imginav import cli
from imginav.manifest.loading import load
from imginav.plugin.registry import installed
from imginav.runs.experiment import run_experiment
from imginav_tests import distributions, lsf, pbs, slurm
from imginav_tests.foreign_plugins import left_out
from imginav_tests.ranks import PHASE

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.waits]

SITE = f"""
[cluster]
command = "{sys.executable} -m imginav"
gpus = 0
cores = 1
memory = "1GB"
setup = ["export IMGINAV_DISABLE_PLUGINS={left_out("metrics")} OMP_NUM_THREADS=1 PYTHONPATH=$PWD:${{PYTHONPATH:-}}"]
concurrency = 2
"""
"""Without metrics, whose library takes seconds to import."""

SWEEP = """
[sweep]
experiments.one = { "encoder.latent_channels" = 2 }
experiments.two = { "encoder.latent_channels" = 4 }
selector = { type = "best" }
"""

SHORT = PHASE.replace("epochs = 2", "epochs = 1").replace("learning_rate = 0.05", "learning_rate = 0.3")

FOLLOWER = (
    SHORT.replace('"9"', '"9.2"').replace('"shared"', '"follower"').replace('"shares"', '"followers"')
    + '[winners]\n"9.1" = ["encoder.latent_channels"]\n'
)


QUEUES = {"lsf": "normal", "openlava": "normal", "pbs": "workq", "slurm": "main"}

TIMES = {"lsf": ("2m", "1m"), "pbs": ("70s", "60s"), "slurm": ("1m", "59s")}
"""Wall time and notice of a job that is to be queued again soon.

Slurm looks at its time limits every half minute; a minute of what stands in for LSF has 15 seconds.
"""


@pytest.fixture(params=["lsf", "slurm"])
def site(request: pytest.FixtureRequest) -> str:
    if request.param == "slurm" and (reason := slurm.missing()):
        pytest.skip(f"a real Slurm cannot be started: {reason}")
    return str(request.param)


@pytest.fixture
def kind(site: str) -> str:
    return "lsf" if site == "openlava" else site


@pytest.fixture
def folder(site: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty working folder, where a cluster is at hand."""
    work = tmp_path / "work"
    work.mkdir()
    distributions.write_pauses(work)
    monkeypatch.syspath_prepend(work)
    monkeypatch.chdir(work)
    monkeypatch.setenv("IMGINAV_DISABLE_PLUGINS", left_out("metrics"))
    (work / "imginav.toml").write_text(f"{SITE}type = '{kind}'\nqueue = '{QUEUES[site]}'\n")
    if site == "slurm":
        with slurm.running(tmp_path / "slurm", nodes=2) as variables:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            yield work
        return
    place = tmp_path / site
    try:
        if site == "lsf":
            variables = lsf.install(place, minute=15, hosts=("localhost", "127.0.0.1"))
        elif site == "openlava":
            variables = lsf.install(place, variant="openlava", takes_units=False, requeue_exit_values=[85])
        else:
            variables = pbs.install(place)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield work
    finally:
        (pbs if site == "pbs" else lsf).stop(place)


def imginav(*arguments: str) -> int:
    return cli.main(arguments)


def record(run: str) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(Path(f"outputs/{run}/run.json").read_text())
    except FileNotFoundError:
        return {"epoch": -1, "state": "none", "job": ""}
    return told


def logs() -> str:
    return "\n".join(f"{path}:\n{path.read_text()}" for path in sorted(Path("outputs").rglob("jobs/*.log")))


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 150) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what}\n{logs()}"
        time.sleep(0.2)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert imginav(*arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def row(text: str, name: str) -> list[str]:
    """Return the cells of an experiment in a table of `imginav status`."""
    (line,) = [line for line in text.splitlines() if line.split()[1:2] == [name]]
    return [cell for cell in line.split("  ") if cell]


def write_chain(phases: Path) -> None:
    """Write a sweep, and a phase that takes its winner."""
    phases.mkdir()
    (phases / "1.toml").write_text(SHORT.replace('"9"', '"9.1"') + SWEEP)
    (phases / "2.toml").write_text(FOLLOWER)


@pytest.mark.parametrize("site", ["lsf", "openlava", "slurm"], indirect=True)
def test_a_chain_of_an_array_and_what_takes_its_winner(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_chain(folder / "phases")
    text = shown(capsys, "submit", "phases")
    array, follower = (line.split(" job ")[1].split(":")[0] for line in text.splitlines() if " job " in line)
    assert f"{kind} job {array}: 2 experiments; its script is outputs/shares/jobs/shares.sh" in text
    assert f"{kind} job {follower}: follower, after {array}; its script is outputs/followers/jobs/follower.sh" in text
    waiting = row(shown(capsys, "status", "phases"), "follower")
    assert waiting[2].strip() == f"{kind} {follower}"
    assert "never starts" not in " ".join(waiting)
    # Submitted again, they have their jobs already.
    text = shown(capsys, "submit", "phases")
    assert "one has" in text
    assert text.count(" its script is ") == 0
    wait_until(lambda: record("follower")["state"] == "finished", "the chain does not end")
    winner = Path("outputs/shares/winner.toml")
    assert winner.is_file()
    for run, job in (("shared_one", f"{array} 1"), ("shared_two", f"{array} 2"), ("follower", follower)):
        assert (record(run)["state"], record(run)["job"]) == ("finished", f"{kind} {job}")
    assert "--require-winners" in Path("outputs/followers/jobs/follower.sh").read_text()
    channels = "latent_channels = 2" if 'winner = "one"' in winner.read_text() else "latent_channels = 4"
    assert channels in Path("outputs/follower/manifest.toml").read_text()
    assert "1 of 1" in shown(capsys, "status", "phases")
    log = shown(capsys, "logs", "phases/1.toml", "--only", "two")
    assert "look at" in log
    wait_until(lambda: imginav("cancel", "phases") == 2, "it is never over")
    assert "none of them has a job that waits or runs" in capsys.readouterr().err
    assert "phase 9.1 is finished: there is nothing to submit" in shown(capsys, "submit", "phases/1.toml")


def weights(run: Path) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = torch.load(run / f"{run.name}_checkpoint_latest.pt", weights_only=True)["model"]
    return model


@pytest.mark.parametrize("site", ["lsf", "pbs", "slurm"], indirect=True)
def test_a_job_is_queued_again_before_its_wall_time_and_ends_as_an_unbroken_run(
    site: str, kind: str, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = folder / "imginav.toml"
    settings.write_text("{}wall_time = '{}'\nnotice = '{}'\n".format(settings.read_text(), *TIMES[site]))
    phase = folder / "long.toml"

    def write(epochs: int) -> None:
        text = PHASE.replace("epochs = 2", f"epochs = {epochs}")
        phase.write_text(text.replace("early_stopping = { patience = 9 }", "pause = { step_seconds = 0.2 }"))

    write(100_000)
    text = shown(capsys, "submit", "long.toml")
    job = text.split(" job ")[1].split(":")[0]
    wait_until(lambda: record("shared")["state"] == "interrupted", "no signal comes before the wall time")
    left = record("shared")["epoch"]
    wait_until(lambda: record("shared")["epoch"] > left + 1, "it is not queued again")
    assert record("shared")["job"] == f"{kind} {job}"
    assert "shared was interrupted: it goes on" in logs()
    status = row(shown(capsys, "status", "long.toml"), "shared")
    assert "running" in " ".join(status)
    # Told to end, it leaves and is not queued again.
    assert f"shared: {kind} job {job} is being cancelled" in shown(capsys, "cancel", "long.toml")
    wait_until(lambda: record("shared")["state"] == "interrupted", "it does not leave")
    wait_until(lambda: imginav("cancel", "long.toml") == 2, "it is queued again")
    # Submitted again, it goes on to an end that is near now.
    epochs = record("shared")["epoch"] + 2
    write(epochs)
    shown(capsys, "submit", "long.toml")
    wait_until(lambda: record("shared")["state"] == "finished", "it does not go on")
    assert record("shared")["epoch"] == epochs
    unbroken = load(
        phase,
        installed(),
        settings=[f"output.{root}='{tmp_path / 'unbroken'}'" for root in ("experiments", "shared")],
    )
    run_experiment(unbroken, lambda _: None, timed=False)
    expected = weights(tmp_path / "unbroken/shared")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(folder / "outputs/shared").items())


def test_machines_of_a_job_train_together(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = folder / "imginav.toml"
    settings.write_text(f"{settings.read_text()}nodes = 2\n")
    (folder / "wide.toml").write_text(SHORT)
    shown(capsys, "submit", "wide.toml")
    wait_until(lambda: record("shared")["state"] in ("finished", "failed"), "it does not end")
    assert record("shared")["state"] == "finished", logs()
    assert "2 processes: each global batch of 5 layouts is shared out, 2.5 to each" in logs()


def test_what_waits_in_vain_is_told_and_submitted_again(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_chain(folder / "phases")
    settings = folder / "imginav.toml"
    good = settings.read_text()
    settings.write_text(good.replace("setup = [", "setup = ['exit 3', "))
    shown(capsys, "submit", "phases")
    wait_until(lambda: "never starts" in shown(capsys, "status", "phases"), "what waits in vain is not told")
    settings.write_text(good)
    text = shown(capsys, "submit", "phases")
    assert "follower: job " in text
    assert "can never start (its dependency failed); cancelled" in text
    assert text.count(" its script is ") == 2
    wait_until(lambda: record("shared_one")["state"] == "running", "what was mended does not start")
    shown(capsys, "cancel", "phases")
