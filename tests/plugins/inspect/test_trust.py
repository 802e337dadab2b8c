"""Plugin files that a site file names: a stranger's folder runs nothing until its files are trusted, as they are."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imginav import cli
from imginav.plugin.file_plugins import FILES
from imginav_inspect.trust_record import record_path, trusted
from imginav_tests import ranks

MINE = """
from pathlib import Path
from attrs import frozen
from imginav import Loss

Path("RAN").touch()

@frozen(kw_only=True)
class Mine(Loss):
    def __call__(self, outputs, batch):
        return (outputs[self.output] - batch[self.target]).abs().mean()
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in a folder of which the site file names a plugin; return status, output and errors."""
    folder = tmp_path / "strange"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv(FILES, "")
    Path("phase.toml").write_text(ranks.PHASE)
    Path("mine.py").write_text(MINE)
    Path("imginav.toml").write_text('plugins = ["./mine.py"]\n')

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = cli.main(arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
        return status, *capsys.readouterr()

    return run


def ran() -> bool:
    """Whether the plugin file was run since this was asked last."""
    there = Path("RAN").exists()
    Path("RAN").unlink(missing_ok=True)
    return there


@pytest.mark.parametrize(
    "arguments",
    [
        "plugins",
        "status phase.toml",
        "check phase.toml",
        "run phase.toml",
        "schema",
        "explain .",
        "evaluate a.pt --to b",
    ],
)
def test_a_command_that_would_load_strange_files_stops_before_they_run(command: Command, arguments: str) -> None:
    status, out, error = command(*arguments.split())
    assert (status, out) == (2, "")
    assert error == (
        "imginav: imginav.toml of this folder names plugin files that you have not trusted, ./mine.py; look at them "
        "and trust them with imginav trust, or name another site file with --site\n"
    )
    assert not ran()


@pytest.mark.parametrize(
    "arguments", ["--help", "help run", "completion bash", "watch --once", "trust", "trust --list"]
)
def test_other_commands_run_nothing_of_a_strange_folder(command: Command, arguments: str) -> None:
    _, out, error = command(*arguments.split())
    assert out or error
    assert not ran()
    assert not trusted()


def test_trusted_files_are_used_until_one_of_them_or_the_list_changes(command: Command) -> None:
    status, out, _ = command("trust", "--yes")
    assert status == 0
    assert f"{Path('mine.py').resolve()}  {Path('mine.py').stat().st_size} B, 11 lines; classes Mine" in out
    assert "  | from pathlib import Path\n" in out
    assert not ran()
    assert command("check", "phase.toml", "--set", "losses.mine={}")[0] == 0
    assert ran()
    assert command("trust")[:2] == (0, out.partition("trusted as")[0] + "trusted already, as they are\n")
    Path("mine.py").write_text(MINE + "# changed\n")
    status, _, error = command("plugins")
    assert status == 2
    assert f"{Path('mine.py').resolve()} changed since you trusted imginav.toml" in error
    Path("mine.py").write_text(MINE)
    Path("other.py").write_text(MINE)
    Path("imginav.toml").write_text('plugins = ["./mine.py", "other.py"]\n')
    status, _, error = command("plugins")
    assert status == 2
    assert f"{Path('imginav.toml').resolve()}, {Path('other.py').resolve()} changed since" in error
    assert not ran()


def test_files_are_trusted_all_or_none(command: Command) -> None:
    Path("imginav.toml").write_text('plugins = ["mine.py", "missing.py"]\n')
    status, _, error = command("trust", "--yes")
    assert status == 2
    assert error == "imginav: missing.py: no such file; correct plugins in imginav.toml\n"
    assert not record_path().exists()


def test_trust_is_asked_for_on_a_terminal_and_refused_without_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no terminal to ask in" in command("trust")[2]
    for answer, is_trusted in (("", False), ("n", False), ("y", True)):
        terminal = io.StringIO(f"{answer}\n")
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        assert command("trust")[0] == 0
        assert bool(trusted()) == is_trusted
    assert not ran()


def test_trust_is_listed_and_taken_back(command: Command) -> None:
    assert command("trust", "--list")[1] == "nothing is trusted\n"
    assert "is not trusted" in command("trust", "--remove")[2]
    command("trust", "--yes")
    listed = command("trust", "--list")[1].splitlines()
    assert listed[0] == str(Path("imginav.toml").resolve())
    assert listed[1].startswith(f"  {Path('mine.py').resolve()}  SHA-256 ")
    assert command("trust", "--remove")[0] == 0
    assert command("plugins")[0] == 2
    assert not ran()


def test_a_site_file_that_is_named_counts_at_once(command: Command) -> None:
    assert command("check", "phase.toml", "--site", "imginav.toml", "--set", "losses.mine={}")[0] == 0
    assert ran()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('plugins = "mine.py"', "imginav.toml: plugins = 'mine.py': expected a list of files, such as"),
        ("plugins = [1]", "imginav.toml: plugins = [1]: expected a list of files, such as"),
        ("plugins = [", "imginav.toml: is not valid TOML"),
    ],
)
def test_what_is_no_list_of_files_is_refused(command: Command, text: str, message: str) -> None:
    Path("imginav.toml").write_text(text)
    for arguments in (("plugins",), ("trust", "--yes")):
        status, _, error = command(*arguments)
        assert status == 2
        assert error.startswith(f"imginav: {message}")


def test_a_manifest_cannot_name_plugin_files(command: Command) -> None:
    Path("imginav.toml").unlink()
    Path("phase.toml").write_text('plugins = ["./mine.py"]\n' + ranks.PHASE)
    status, _, error = command("check", "phase.toml")
    assert status == 2
    assert "a manifest names no plugin files; name them with --plugin FILE, or in the site file @ plugins" in error
    assert not ran()


def test_a_damaged_record_is_one_sentence(command: Command) -> None:
    record_path().parent.mkdir(parents=True)
    for text in ("{", "[]", '{"a": 1}'):
        record_path().write_text(text)
        status, _, error = command("plugins")
        assert status == 2
        assert "delete it, and trust again" in error
    assert not ran()


def test_a_record_of_the_working_folder_is_not_the_users(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command("trust", "--yes")
    Path("imginav").mkdir()
    Path("imginav/trusted.json").write_text(json.dumps(trusted()))
    monkeypatch.setenv("XDG_CONFIG_HOME", ".")
    monkeypatch.setenv("HOME", str(Path.cwd().parent / "home"))
    assert command("plugins")[0] == 2
    assert not ran()


@pytest.mark.slow
@pytest.mark.integration
def test_processes_of_a_command_import_no_module_of_the_working_folder(command: Command) -> None:
    Path("imginav.toml").unlink()
    for name in ("multiprocessing", "runpy", "torch"):
        Path(f"{name}.py").write_text("from pathlib import Path\nPath('RAN').touch()\n")
    sweep = '\n[sweep.experiments]\none = { "train.seed" = 1 }\ntwo = { "train.seed" = 2 }\n'
    Path("phase.toml").write_text(ranks.PHASE + sweep)
    program = Path(sys.executable).with_name("imginav")
    arguments = ["run", "phase.toml", "--set", "train.epochs=1"]
    done = subprocess.run([program, *arguments], env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not ran()
