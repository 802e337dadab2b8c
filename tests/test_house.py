"""The law of the house: which file imports which, and how long files and functions may be."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "imginav"
SOURCES = sorted(path for folder in ("core", "plugins") for path in (ROOT / folder).rglob("*.py"))

CORE_LINES = 10_900
FILE_LINES = 400
FUNCTION_LINES = 60

LONG_FILES: dict[str, str] = {}
"""Files that may be longer, each with the reason."""

LONG_FUNCTIONS = {
    "core/imginav/manifest/loading.py::load_phase": "the order of all layers, from the first to the last, in one place",
}
"""Functions that may be longer, each with the reason."""


def lint(folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts that lie in a folder, with other paths before those of the installed packages."""
    program = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run(
        [program, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("files.py", "from imginav.study import phases", "Each folder of the core imports only what stands below it"),
        ("study/phases.py", "import imginav_reports", "The core imports no plugin"),
        ("data/batches.py", "from imginav.data import loader", "There is no circle"),
    ],
)
def test_an_import_against_the_law_is_found(file: str, line: str, broken: str, tmp_path: Path) -> None:
    shutil.copytree(CORE, tmp_path / "core" / "imginav")
    shutil.copy(ROOT / ".importlinter", tmp_path)
    source = tmp_path / "core" / "imginav" / file
    source.write_text(f"{source.read_text()}\n\ndef against_the_law() -> None:\n    {line}\n")
    done = lint(tmp_path, tmp_path / "core")
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(row.startswith(broken) and " BROKEN" in row for row in done.stdout.splitlines()), done.stdout


def test_the_core_is_small() -> None:
    assert sum(len(path.read_text().splitlines()) for path in CORE.rglob("*.py")) <= CORE_LINES


def test_files_are_short() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: number for name, number in lines.items() if number > FILE_LINES and name not in LONG_FILES} == {}
    assert [name for name in LONG_FILES if lines.get(name, 0) <= FILE_LINES] == []  # an exception that is none any more


def test_functions_are_short() -> None:
    lines = {
        f"{path.relative_to(ROOT).as_posix()}::{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    too_long = {name: number for name, number in lines.items() if number > FUNCTION_LINES}
    assert {name: number for name, number in too_long.items() if name not in LONG_FUNCTIONS} == {}
    assert [name for name in LONG_FUNCTIONS if name not in too_long] == []
