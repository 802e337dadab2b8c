"""Plugins in one file: named on the command line, the same in every process, and never read from a compiled file."""

from __future__ import annotations

import importlib.util
import os
import py_compile
import re
import subprocess
import sys
from pathlib import Path

import pytest

from imginav import UserError
from imginav.cli import main
from imginav.plugin.file_plugins import FILES, use_files
from imginav.plugin.registry import installed
from imginav_tests import ranks

MINE = """
from attrs import frozen
from imginav import Head, Loss

class Helper:
    pass

@frozen(kw_only=True)
class _Base(Loss):
    power: float = 2.0

@frozen(kw_only=True)
class SmoothL2(_Base):
    '''A loss of mine.'''

    def __call__(self, outputs, batch):
        return (outputs[self.output] - batch[self.target]).abs().pow(self.power).mean()
"""

HOOK = """
from imginav import hookimpl

@hookimpl
def imginav_components(registry):
    registry.add("loss", "by_another_name", SmoothL2)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the file and a phase in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FILES, "")
    Path("phase.toml").write_text(ranks.PHASE)
    Path("mine.py").write_text(MINE)
    return Path("mine.py")


def losses() -> dict[str, str]:
    return {r.name: str(r.provider) for r in installed() if r.kind == "loss"}


def test_each_component_of_a_file_has_the_name_of_its_class(mine: Path) -> None:
    assert "smooth_l2" not in losses()
    use_files([mine])
    found = losses()
    assert found["smooth_l2"] == "mine.py"
    assert "_base" not in found


def test_a_file_with_the_hook_registers_its_components_itself(mine: Path) -> None:
    mine.write_text(MINE + HOOK)
    use_files([mine])
    assert "by_another_name" in losses()
    assert "smooth_l2" not in losses()


def test_a_command_uses_a_file_for_as_long_as_it_runs(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--plugin", "mine.py"]) == 0
    assert re.search(r"^loss +smooth_l2 +mine\.py +mine\.py +A loss of mine\.", capsys.readouterr().out, re.MULTILINE)
    assert main(["plugins"]) == 0
    assert "smooth_l2" not in capsys.readouterr().out


def test_what_was_trained_with_a_file_names_its_components_and_never_the_file(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--plugin", "mine.py"]
    assert main(["run", "phase.toml", *own, "--set", "losses.smooth_l2={}", "--set", "train.epochs=1"]) == 0
    run = Path("outputs/shared")
    assert "smooth_l2" in (run / "manifest.toml").read_text()
    for path in (run / "manifest.toml", run / "run.json", run / "evaluation.json", *run.glob("*.pt")):
        assert b"mine" not in path.read_bytes(), path
    (checkpoint,) = run.glob("*_best.pt")
    assert main(["evaluate", str(checkpoint), "--to", "again", *own]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(checkpoint), "--to", "third"]) == 2
    assert re.search(r"no loss 'smooth_l2' is installed.*--plugin FILE", capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize(
    "arguments",
    [
        ("--jobs", "2", "--set", "machine.workers=1"),
        ("--gpus", "2", "--only", "one", "--set", "machine.device=cpu"),
    ],
)
def test_every_process_of_a_command_uses_the_file(mine: Path, arguments: tuple[str, ...], no_pages: None) -> None:
    sweep = '\n[sweep.experiments]\none = { "train.seed" = 1 }\ntwo = { "train.seed" = 2 }\n'
    Path("phase.toml").write_text(ranks.PHASE + sweep)
    settings = ["--set", "losses.smooth_l2={}", "--set", "train.epochs=1"]
    command = [sys.executable, "-m", "imginav", "run", "phase.toml", "--plugin", "mine.py", *settings, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = ["one"] if "--only" in arguments else ["one", "two"]
    assert all((Path("outputs") / f"shared_{name}" / "evaluation.json").exists() for name in names)


def test_a_job_gets_the_file_by_its_whole_path(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("imginav.toml").write_text('[cluster]\ntype = "slurm"\n')
    arguments = ["submit", "phase.toml", "--dry-run", "--plugin", "mine.py", "--set", "losses.smooth_l2={}"]
    assert main(arguments) == 0
    assert f"--plugin {mine.resolve()}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["nowhere.py"], r"^--plugin nowhere\.py: is no Python file; name one with components, such as \./mine\.py$"),
        (["."], r"^--plugin \.: is no Python file"),
        (["phase.toml"], r"^--plugin phase\.toml: is no Python file"),
        (
            ["mine.py", "other/mine.py"],
            r"^--plugin other/mine\.py: /.*/mine\.py has the same name; rename one",
        ),
    ],
)
def test_what_is_no_plugin_is_refused_by_name(mine: Path, files: list[str], message: str) -> None:
    Path("other").mkdir()
    Path("other/mine.py").write_text(MINE)
    with pytest.raises(UserError, match=message):
        use_files(list(map(Path, files)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = (", r"^mine\.py cannot be loaded: SyntaxError: .*; repair it$"),
        ("import nowhere_to_be_found", r"^mine\.py cannot be loaded: ModuleNotFoundError: .*; repair it$"),
        ("x = 1", r"^mine\.py offers nothing"),
        (MINE.replace("@frozen(kw_only=True)\nclass Smooth", "class Smooth"), "mine.py registers loss .*not a frozen"),
        (
            MINE.replace("SmoothL2", "MSE"),
            r"^loss 'mse' is provided twice, by plugin .* mine\.py; rename it in",
        ),
        (
            MINE.replace("SmoothL2", "Mse"),
            r"^loss 'mse' is provided twice, by plugin .* mine\.py; rename it in",
        ),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(mine: Path, source: str, message: str) -> None:
    mine.write_text(source)
    use_files([mine])
    with pytest.raises(UserError, match=message):
        installed()


def test_an_error_in_a_file_names_class_and_line(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine.write_text(MINE.replace(".abs()", ".nothing()"))
    assert main(["run", "phase.toml", "--plugin", "mine.py", "--set", "losses.smooth_l2={}"]) == 2
    assert re.fullmatch(
        r"imginav: mine\.py failed in SmoothL2\.__call__ \(mine\.py, line 17\): AttributeError: .*; repair it; --debug "
        r"shows the traceback\n",
        capsys.readouterr().err,
    )


def test_a_file_that_has_changed_since_the_command_began_is_refused(mine: Path) -> None:
    use_files([mine])
    mine.write_text(MINE + "\nx = 1\n")
    with pytest.raises(UserError, match="has changed since the command began; give the command again"):
        installed()


def test_a_compiled_file_beside_it_is_not_read(mine: Path) -> None:
    Path("evil.py").write_text("raise SystemExit('planted')")
    cache = importlib.util.cache_from_source("mine.py")
    py_compile.compile("evil.py", cache, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    use_files([mine])
    assert "smooth_l2" in losses()
    assert os.listdir("__pycache__") == [Path(cache).name]  # noqa: PTH208  # and none is written
