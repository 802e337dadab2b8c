"""`imginav.train`, as Python users call it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import imginav
from imginav import Run, TrainedPhase, UserError
from imginav.plugin.discovery import DISABLE
from imginav_tests.foreign_plugins import left_out
from imginav_tests.waiting import wait_until

GREETING = """
from attrs import frozen

from imginav import Callback, hookimpl


@frozen(kw_only=True)
class Greeting(Callback):
    text: str

    def build(self):
        return self

    @hookimpl
    def run_closed(self):
        print(self.text)
"""

FAILING = """
from attrs import frozen

from imginav import Callback, UserError, hookimpl


@frozen(kw_only=True)
class Failing(Callback):
    experiment: str

    def build(self):
        return self

    @hookimpl
    def run_started(self, folder):
        if folder.experiment == self.experiment:
            raise UserError("it was asked to fail")
"""

LONG_ENOUGH = {"train.epochs": 30, "train.optimizer.learning_rate": 0.01}
"""For a small network to be better than a blank image."""

pytestmark = pytest.mark.integration


def one(phase: Path | str, *arguments: Any, **options: Any) -> Run:
    run = imginav.train(phase, *arguments, **options)
    assert isinstance(run, Run)
    return run


def test_a_run_is_what_the_command_leaves(phase: Path, tmp_path: Path) -> None:
    run = one("nine", {"train.epochs": 1}, name="own", scale="full")
    assert (run.name, run.state) == ("own", "finished")
    assert run.metrics["epoch"] == [1]
    assert run.evaluation.epochs == 1
    assert run.report.path.is_file()
    command = [sys.executable, "-m", "imginav", "run", "nine", "--set", "train.epochs=1", "--name", "own", "--full"]
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "own is finished already, with the same manifest and layouts" in again.stdout


@pytest.mark.usefixtures("no_pages")
def test_settings_and_options_reach_the_run(phase: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("site.toml").write_text('[output]\nexperiments = "runs"\n')
    Path("mine.py").write_text(GREETING)
    settings = {"train.epochs": 1, "callbacks.greeting": {"text": "good bye"}}
    run = one(phase, settings, site="site.toml", plugins=["mine.py"])
    assert run.folder == Path("runs/small")
    assert "good bye\n" in capsys.readouterr().out
    extended = one(phase, settings, site="site.toml", plugins=["mine.py"], extend=1)
    assert extended.metrics["epoch"] == [1, 2]
    fresh = one(phase, settings, site="site.toml", resume="never")
    assert fresh.metrics["epoch"] == [1]
    assert Path("runs/small.1").is_dir()


@pytest.mark.usefixtures("no_pages")
def test_a_sweep_returns_all_of_its_runs_and_the_winner(sweep: Path) -> None:
    part = one(sweep, LONG_ENOUGH, only="L2")
    assert part.evaluation.latent[2] == 3
    phase = imginav.train(sweep, LONG_ENOUGH, jobs=2)
    assert isinstance(phase, TrainedPhase)
    assert [run.evaluation.latent[2] for run in phase.runs.values()] == [2, 3]
    assert list(phase.runs) == phase.metrics["run"] == ["L1", "L2"]
    errors = phase.metrics["val_mse"]
    assert errors == [run.evaluation.metrics["val_mse"] for run in phase.runs.values()]
    assert phase.winner is not None
    assert phase.winner.winner == ("L1" if errors[0] < errors[1] else "L2")
    assert phase.report.path == Path("outputs/smalls/report.html")


@pytest.mark.usefixtures("no_pages")
def test_a_failed_experiment_of_a_sweep_is_an_error_and_the_others_stay(
    sweep: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("failing.py").write_text(FAILING)
    settings = {"train.epochs": 1, "callbacks.failing.experiment": "sweep_L1"}
    with pytest.raises(UserError, match=r"sweep\.toml: these experiments have failed: L1; the lines above say why"):
        imginav.train(sweep, settings, plugins=["failing.py"])
    assert "sweep_L1 failed: it was asked to fail" in capfd.readouterr().err
    assert imginav.open_run("sweep_L2").state == "finished"


@pytest.mark.usefixtures("no_pages")
def test_an_interrupted_run_resumes_where_it_was(phase: Path) -> None:
    settings = {"train.epochs": 60}
    program = f"import imginav; imginav.train('nine.toml', {settings})"
    # Without pages, which take most of the time of a tiny run.
    environment = {**os.environ, DISABLE: left_out("reports")}
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, env=environment)
    metrics = Path("outputs/small/small_metrics.csv")
    wait_until(lambda: metrics.is_file() and len(metrics.read_text().splitlines()) > 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert said.rstrip().endswith("KeyboardInterrupt: stopped by SIGINT, state saved; call it again to resume")
    run = imginav.open_run("small")
    assert run.state == "interrupted"
    assert 2 <= len(run.metrics) < 60
    assert one(phase, settings).state == "finished"
    assert run.metrics["epoch"] == list(range(1, 61))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"phase": "nin"}, "nin: no such file or phase"),
        ({"scale": "ful"}, "scale = 'ful': expected auto, full, trial, quick"),
        ({"jobs": 0}, "jobs = 0: expected a number of at least 1"),
        ({"extend": "2"}, "extend = '2': expected a number of at least 1"),
        ({"settings": {"train.epoch": 1}}, "unknown key 'epoch', did you mean 'epochs'"),
        ({"only": "L9"}, "--only L9: nine.toml has no such experiment"),
        ({"plugins": ["gone.py"]}, r"--plugin gone\.py: is no Python file"),
        ({"site": "gone.toml"}, r"gone\.toml"),
    ],
)
def test_what_the_command_refuses_is_a_user_error(phase: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        imginav.train(**{"phase": "nine.toml", **arguments})
    assert not Path("outputs").exists()
