"""Where and how a run was trained."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
import torch

from imginav.training.device import Device
from imginav.training.trainer import Trainer
from imginav_reports.environment import (
    Environment,
    command_line,
    current_environment,
    load_environment,
    peak_memory,
    plugin_distributions,
)
from imginav_tests.records import run_record

MakeTrainer = Callable[..., Trainer]
Install = Callable[..., None]


@pytest.fixture
def device(make_trainer: MakeTrainer) -> Device:
    return make_trainer("machine.device=cpu", "machine.precision=bf16").device


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["/opt/venv/bin/imginav", "run", "my phases/1_5.toml", "--set", 'data.manifest="a b.csv"'],
            """imginav run 'my phases/1_5.toml' --set 'data.manifest="a b.csv"'""",
        ),
        (["/lib/python/imginav/__main__.py", "run", "x.toml"], "python -m imginav run x.toml"),
        (["", "x"], "'' x"),
        ([], "''"),
    ],
)
def test_a_command_is_as_it_was_typed(arguments: list[str], said: str) -> None:
    assert command_line(arguments) == said
    assert shlex.split(said)[-1] == (arguments[-1] if arguments else "")


def test_it_says_what_this_process_is(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["imginav", "run", "phases/1_5.toml"])
    found = current_environment(device, None)
    assert found.command == "imginav run phases/1_5.toml"
    assert found.folder == str(Path.cwd())
    assert (found.device, found.precision, found.processes) == ("cpu", "bf16", 1)
    assert found.libraries["torch"] == torch.__version__
    assert found.seconds is None
    assert found.peak_gpu_bytes is None


def test_the_wall_time_counts_all_attempts_up_to_now(device: Device) -> None:
    updated = (datetime.now(UTC) - timedelta(seconds=1000)).isoformat(timespec="seconds")
    seconds = current_environment(device, run_record(seconds=500.0, updated=updated)).seconds
    assert seconds is not None
    assert seconds >= 1500
    assert current_environment(device, run_record(seconds=500.0, updated="yesterday")).seconds == 500.0


def test_the_peak_of_memory_is_in_bytes() -> None:
    held = torch.ones(20_000_000)
    peak = peak_memory()
    assert peak is not None
    assert held.nbytes < peak < 1000 * held.nbytes


def test_other_distributions_with_plugins_are_named_and_those_left_out_are_not(install: Install) -> None:
    known = plugin_distributions(os.environ)
    install("imginav-mine", "mine", "")
    install("imginav-commands", "words", "", group="imginav.commands")
    found = plugin_distributions({})
    assert {"imginav-mine": "1.2", "imginav-commands": "1.2"}.items() <= found.items()
    assert "imginav" not in found
    assert "imginav-mine" not in plugin_distributions({"IMGINAV_DISABLE_PLUGINS": "other, mine"})
    assert "imginav-mine" not in plugin_distributions({"IMGINAV_DISABLE_PLUGINS": "imginav-mine"})
    assert "imginav-mine" not in known


def test_it_is_read_back_as_it_was_written(device: Device, tmp_path: Path) -> None:
    found = current_environment(device, run_record())
    found.save(tmp_path / "environment.json")
    assert load_environment(tmp_path / "environment.json") == found


@pytest.mark.parametrize("text", [None, "", "[]", '{"format": 9}'])
def test_one_that_cannot_be_read_is_none(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "environment.json").write_text(text)
    assert load_environment(tmp_path / "environment.json") is None


def test_its_rows_leave_out_what_is_not_known(device: Device) -> None:
    found = current_environment(device, run_record(seconds=436.0))
    rows = dict(found.rows)
    assert rows["device"] == "cpu, bf16"
    assert "peak GPU memory" not in rows
    assert "processes" not in rows
    other: Environment = attrs.evolve(
        found,
        processes=2,
        peak_gpu_bytes=3_400_000_000,
        peak_memory_bytes=2_000_000_000,
        seconds=None,
        plugins={"a": "1"},
    )
    rows = dict(other.rows)
    assert rows["peak GPU memory"] == "3.4 GB"
    assert rows["peak memory"] == "2.0 GB of the first process"
    assert rows["other plugins"] == "a 1"
    assert "wall time" not in rows
    assert json.dumps(rows)
