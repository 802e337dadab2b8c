"""The command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from imginav import __version__
from imginav.cli import main
from imginav.processes.stop_request import SIGNALS
from imginav.study import phases


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from imginav.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'matplotlib', 'rich', 'cattrs', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "run" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_a_user_can_mend_is_one_message_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "phases/1_6.toml"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("imginav: phases/1_6.toml: no such file or phase, did you mean '1.5'?; there are ")
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_trains_hears_signals_from_its_start_to_its_end(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened(*_: object) -> None:
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    monkeypatch.setattr(phases, "open_phase", opened)
    assert main(["run", str(Path(__file__).parents[2] / "phases" / "1_5.toml")]) == 85
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"imginav: stopped by {number.name}, state saved; run the same command to resume"
    )
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("resume", ["never", "outputs/final/final_checkpoint_latest.pt"])
def test_a_command_that_would_begin_again_is_not_the_one_to_give_again(
    resume: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(phases, "open_phase", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["run", str(Path(__file__).parents[2] / "phases" / "1_5.toml"), "--resume", resume]) == 85
    assert capsys.readouterr().err.splitlines()[-1] == (
        "imginav: stopped by SIGTERM, state saved; run the same command without --resume to resume"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("rnu x.toml", "there is no command 'rnu', did you mean 'run'?; imginav --help lists all"),
        ("--quiet zzz", "there is no command 'zzz'; imginav --help lists all"),
        ("run --ful 1.5 --zzz", "run: unknown option '--zzz'; imginav help run shows what there is"),
        ("run 1.5 --reusme=never", "run: unknown option '--reusme', did you mean '--resume'?; imginav help run"),
        ("run 1.5 y.toml", "run: unexpected argument 'y.toml'; imginav help run shows what there is"),
        ("run", "run: the following arguments are required: PHASE; imginav help run shows what there is"),
        (
            "run 1.5 --jobs 0",
            "run: argument --jobs: expected a whole number of at least 1, found '0'; imginav help run",
        ),
        (
            "run 1.5 --jobs two",
            "run: argument --jobs: expected a whole number of at least 1, found 'two'; imginav help",
        ),
        ("run 1.5 --jobs ²", "run: argument --jobs: expected a whole number of at least 1, found '²'; imginav help"),
        (
            "run 1.5 --jobs=--5",
            "run: argument --jobs: expected a whole number of at least 1, found '--5'; imginav",
        ),
        (
            "watch --every soon",
            "watch: argument --every: expected 0.1 to 86400 seconds, found 'soon'; imginav help",
        ),
        (
            "encode m.pt a.png x --size large",
            "encode: argument --size: expected a whole number from 8 to 8,192, found 'large'; imginav help encode",
        ),
        (
            "embed m.pt --out x --shard 0",
            "embed: argument --shard: expected a whole number from 1 to 1,000,000, found '0'; imginav help embed",
        ),
        ("", "the following arguments are required: COMMAND; imginav --help shows what there is"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"imginav: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--debug", "run", "nowhere.toml"], ["run", "nowhere.toml", "--debug"]])
def test_debug_shows_the_traceback_of_any_error_before_its_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("imginav: nowhere.toml: no such file")
    assert "IMGINAV_DEBUG" not in os.environ  # it is for the processes of this command


def test_an_option_of_a_command_goes_before_one_of_all_commands(
    install: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    source = (
        "from imginav import hookimpl\n"
        "def shout(options):\n"
        "    print(options.quiet, options.debug)\n"
        "    return 0\n"
        "def add_arguments(command):\n"
        "    command.add_argument('--quiet', default='a little')\n"
        "@hookimpl\n"
        "def imginav_commands(commands):\n"
        "    commands.add('shout', shout, add_arguments)\n"
    )
    install("shouts", "shouts", source, group="imginav.commands")
    assert main(["shout"]) == 0
    assert main(["shout", "--quiet", "much", "--debug"]) == 0
    assert capsys.readouterr().out == "a little False\nmuch True\n"


def test_plugins_lists_every_component_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["kind", "name", "from", "file", "what", "it", "is"]
    early_stopping = next(line for line in lines if " early_stopping " in line)
    assert early_stopping.startswith("callback")
    assert "imginav 0." in early_stopping
    assert "early_stopping.py" in early_stopping
    assert "Stop when `train.monitor` has not got better" in early_stopping


def test_the_module_can_be_run() -> None:
    done = subprocess.run([sys.executable, "-m", "imginav", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"imginav {__version__}\n"


def test_the_version_is_known_without_importing_torch() -> None:
    code = "import imginav, sys; print(imginav.__version__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{version('imginav')} False\n"


def test_a_study_of_no_folder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", "nowhere"]) == 2
    assert capsys.readouterr().err == (
        "imginav: nowhere: is no folder; name the one that holds the phases, such as phases/\n"
    )
