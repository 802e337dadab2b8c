"""An error in a third party's plugin is one sentence; faults of imginav keep their traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from imginav import UserError
from imginav.cli import main
from imginav.plugin.discovery import DISABLE
from imginav.plugin.plugin_faults import PluginError, plugin_fault, plugin_faults_named
from imginav.training.objective import Objective
from imginav_tests import ranks
from imginav_tests.foreign_plugins import left_out

Install = Callable[..., None]

PLUGIN = """
from attrs import frozen
from imginav import Dataset, Loss, hookimpl
from imginav.plugin import Sample
from imginav_datasets import Procedural

@frozen(kw_only=True)
class Odd(Loss):
    '''A loss that fails.'''

    def __call__(self, outputs, batch):
        return self.divide(0)

    def divide(self, by):
        return 1 / by

@frozen(kw_only=True)
class OddSource(Procedural):
    '''A data set of which a layout fails.'''

    def open(self):
        source = super().open()
        read = source.read
        def reading(index):
            if index == 3:
                raise KeyError("layout 3")
            return read(index)
        source.read = reading
        return source

@hookimpl
def imginav_components(registry):
    registry.add("loss", "odd", Odd)
    registry.add("dataset", "odd_source", OddSource)
"""

SENTENCE = (
    r"plugin 'odd' of odd-loss 1\.2 failed in Odd\.divide \(site-packages/odd_loss\.py, line 15\): ZeroDivisionError: "
    r"division by zero; repair or uninstall it, or leave it out with IMGINAV_DISABLE_PLUGINS=odd; --debug shows the "
    r"traceback"
)

ODD_LOSS = ("--set", "losses.odd={}")


@pytest.fixture
def phase(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pages: None) -> str:
    """Install the plugin, and write a small phase; return its file."""
    install("odd-loss", "odd", PLUGIN)
    monkeypatch.chdir(tmp_path)
    Path("phase.toml").write_text(ranks.PHASE)
    return "phase.toml"


def test_an_error_in_a_plugin_is_one_sentence_in_a_run_and_in_its_record(
    phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", phase, *ODD_LOSS]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(f"imginav: {SENTENCE}\n", error)
    record = json.loads(Path("outputs/shared/run.json").read_text())
    assert record["state"] == "failed"
    assert re.fullmatch(SENTENCE, record["error"])


def test_debug_shows_the_traceback_before_the_sentence(phase: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "run", phase, *ODD_LOSS]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "    return 1 / by" in lines
    assert re.fullmatch(f"imginav: {SENTENCE}", lines[-1])


def test_check_gathers_it_with_the_faults_of_the_phase(phase: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", phase, *ODD_LOSS, "--set", "train.monitor=none"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("imginav: 2 faults found\n")
    assert re.search(f"^phase.toml: {SENTENCE}$", error, re.MULTILINE)
    assert "train.monitor" in error


def test_check_names_the_plugin_also_where_a_layout_does_not_fit(
    install: Install, phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install("even-loss", "even", PLUGIN.replace("return 1 / by", "raise ValueError('bad')").replace("odd", "even"))
    assert main(["check", phase, "--set", "losses.even={}"]) == 2
    assert re.search(
        r"losses\.even: a layout cannot be put through it: plugin 'even' of even-loss 1\.2 failed in "
        r"Odd\.divide \(.*\): ValueError: bad; ",
        capsys.readouterr().err,
    )


def test_an_error_in_a_loading_process_is_the_same_sentence(phase: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", phase, "--set", "data.type=odd_source", "--set", "machine.workers=1"]) == 2
    assert re.fullmatch(
        r"imginav: plugin 'odd' of odd-loss 1\.2 failed in reading \(site-packages/odd_loss\.py, line 26\): KeyError: "
        r"'layout 3'; repair or .*\n",
        capsys.readouterr().err,
    )


SWEEP = """
[sweep.experiments]
one = { "train.seed" = 1 }
two = { "train.seed" = 2 }
"""


def as_user(site_packages: Path) -> dict[str, str]:
    """Return the environment of a process that sees the plugins of this folder."""
    return {**os.environ, "PYTHONPATH": str(site_packages), DISABLE: left_out("reports", seen=["odd-loss"])}


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--jobs", "2"), 1),
        (("--gpus", "2", "--only", "one", "--set", "machine.device=cpu"), 2),
    ],
)
def test_an_error_in_processes_of_a_command_is_the_same_sentence(
    phase: str, site_packages: Path, arguments: tuple[str, ...], status: int
) -> None:
    Path(phase).write_text(ranks.PHASE + SWEEP)
    command = [sys.executable, "-m", "imginav", "run", phase, *arguments, *ODD_LOSS]
    done = subprocess.run(command, env=as_user(site_packages), capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert len(re.findall(f"^imginav: .*{SENTENCE}$", done.stderr, re.MULTILINE)) == (2 if status == 1 else 1)
    assert "Traceback" not in done.stderr


def test_a_fault_of_imginav_keeps_its_traceback(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Objective, "__call__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["run", phase, *ODD_LOSS])


def test_of_two_plugins_the_one_nearest_to_the_fault_is_named(install: Install) -> None:
    install("inner", "in", "def fail():\n    raise RuntimeError('first\\nsecond')\n")
    install("outer", "out", "import inner\n\nclass Outer:\n    def call(self):\n        inner.fail()\n")
    from outer import Outer  # type: ignore[import-not-found]  # it was just written

    with (
        pytest.raises(
            PluginError, match=r"^plugin 'in' of inner 1\.2 failed in fail \(.*inner\.py, line 2\)"
        ) as caught,
        plugin_faults_named(),
    ):
        Outer().call()
    assert "RuntimeError: first second; " in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), UserError("mend it"), KeyboardInterrupt()]
)
def test_what_is_no_fault_of_the_plugin_stays_as_it_is(install: Install, error: BaseException) -> None:
    install("raiser", "raiser", "def fail(error):\n    raise error\n")
    from raiser import fail  # type: ignore[import-not-found]  # it was just written

    with pytest.raises(type(error)) as caught, plugin_faults_named():
        fail(error)
    assert caught.value is error


def test_too_little_memory_within_a_plugin_is_what_the_limits_say(
    phase: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried')"
    install("big-loss", "big", PLUGIN.replace("return 1 / by", text).replace("odd", "big"))
    assert main(["run", phase, "--set", "losses.big={}"]) == 2
    assert capsys.readouterr().err.startswith("imginav: the GPU has too little memory (CUDA out of memory)")


def test_an_error_that_has_passed_no_plugin_has_no_sentence() -> None:
    with pytest.raises(ValueError, match="of imginav") as caught:
        raise ValueError("of imginav")
    assert plugin_fault(caught.value) == ""
