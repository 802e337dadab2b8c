"""The commands for looking: help, completion, and what programs read."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imginav.cli import main, parser
from imginav.plugin.registry import installed
from imginav_inspect.json_output import print_json
from imginav_tests import ranks

Read = Callable[..., dict[str, Any]]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Read:
    """Run a command with --json in a folder with a small phase; return the object that it prints."""
    monkeypatch.chdir(tmp_path)
    Path("phase.toml").write_text(ranks.PHASE)

    def read(*arguments: str, status: int = 0) -> dict[str, Any]:
        assert main([*arguments, "--json"]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return read


def test_help_shows_all_commands_or_the_options_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, shown in ((["help"], "Train the experiments"), (["help", "run"], "--rendezvous")):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert shown in " ".join(capsys.readouterr().out.split())
    assert main(["help", "pln"]) == 2
    assert (
        capsys.readouterr().err
        == "imginav: there is no command 'pln', did you mean 'plan'?; imginav --help lists all\n"
    )


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["pl"], ["plan", "plugins"]),
        (["run", "--res"], ["--resume"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["run", "ph"], ["phase.toml"]),
    ],
)
def test_bash_completes_commands_options_and_files(
    words: list[str], completed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    (tmp_path / "completion.sh").write_text(capsys.readouterr().out)
    (tmp_path / "phase.toml").touch()
    line = " ".join(f"'{word}'" for word in ["imginav", *words])
    script = (
        f"source completion.sh; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_imginav; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S607
    assert sorted(done.stdout.split()) == completed


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_with_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in ("reconstruct", "--rendezvous", "winner"))


def test_the_library_for_completion_is_imported_by_its_command_alone() -> None:
    code = "import sys\nfrom imginav.cli import parser\nparser()\nprint('shtab' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert parser().prog == "imginav"


def test_plugins_are_listed_for_programs(read: Read) -> None:
    components = read("plugins")["components"]
    assert len(components) == len(list(installed()))
    (mse,) = (c for c in components if (c["kind"], c["name"]) == ("loss", "mse"))
    assert mse["distribution"] == "imginav"
    assert mse["file"].endswith("pixels.py")


def test_check_lists_faults_for_programs_and_ends_with_the_same_status(
    read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    (right,) = read("check", "phase.toml")["phases"]
    assert right == {
        "path": "phase.toml",
        "right": True,
        "summary": "1 experiment; 28 embedded layouts of 32 px, drawn from seed 0",
        "faults": [],
        "notes": [],
    }
    (wrong,) = read("check", "phase.toml", "--set", "train.epochs=0", status=2)["phases"]
    assert not wrong["right"]
    assert len(wrong["faults"]) == 1
    assert "train.epochs" in wrong["faults"][0]


def test_a_plan_for_programs_has_values_origins_and_needs(read: Read) -> None:
    found = read("plan", "phase.toml", "--set", "train.epochs=3")
    assert found["phase"] == "9"
    assert found["values"]["train.epochs"] == {"value": 3, "origin": "--set"}
    (needs,) = found["experiments"]
    assert needs["latent"] == [8, 8, 2]
    assert (needs["run"], needs["epochs"], needs["seconds"]) == ("shared", 3, None)


def test_status_and_watch_for_programs_tell_of_a_finished_run(
    read: Read, no_pages: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "phase.toml", "--quiet"]) == 0
    capsys.readouterr()
    (run,) = read("watch", "outputs")["runs"]
    assert (run["run"], run["state"], run["epoch"], run["epochs"]) == ("shared", "finished", 2, 2)
    assert run["best"]["value"] == min(run["best"]["value"], run["last"]["val_loss"])
    status = read("status", "phase.toml")
    (row,) = status["experiments"]
    assert row["run"] == run
    assert row["job"] is None
    assert status["winners"] == {"9": None}


def test_what_json_has_no_word_for_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"value": math.nan, "path": Path("a"), "rows": ({"x": math.inf},)})
    assert json.loads(capsys.readouterr().out) == {"value": None, "path": "a", "rows": [{"x": None}]}


def test_quiet_leaves_the_result_and_drops_progress_and_log_lines(
    read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "callbacks.progress={ line_seconds = 1e-9 }", "--set", "train.epochs=1"]
    assert main(["run", "phase.toml", *settings]) == 0
    loud = capsys.readouterr().out.splitlines()
    assert main(["run", "phase.toml", *settings, "--resume", "never", "--quiet"]) == 0
    quiet = capsys.readouterr().out.splitlines()
    assert any(line.startswith("epoch 1/1") for line in loud)
    assert [line for line in quiet if line.startswith("epoch ")] == []
    report = "outputs/shared/report.html"  # which the summary names
    assert any(report in line for line in loud)
    assert any(report in line for line in quiet)
    assert len(quiet) < len(loud) - 2
