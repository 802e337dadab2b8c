"""The third-party plugins in `examples/`, installed with pip as a stranger would."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from imginav.plugin.discovery import DISABLE
from imginav_tests.foreign_plugins import left_out

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "huber"
COMMAND = ROOT / "examples" / "count"

SETTINGS = (
    "data.type=layouts",
    "data.image_size=64",
    "encoder.base_channels=16",
    "encoder.downsampling_steps=2",
    "train.batch_size=4",
    "train.epochs=3",
    "losses.huber={ delta = 0.25, weight = 2.0 }",
    "losses.mse=false",
    "callbacks.stop_file={ name = 'manifest.toml' }",
)


Install = Callable[[Path], Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Install an example into a fresh environment that sees imginav and what it needs; return its Python."""

    def install(example: Path) -> Path:
        folder = tmp_path / "environment"
        venv.create(folder, with_pip=True)
        # torch takes gigabytes: what is installed already is seen from the fresh environment, which alone gets the
        # plugin.
        packages = next((folder / "lib").glob("python*/site-packages"))
        (packages / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        python = folder / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", *options, example], check=True, capture_output=True)
        return python

    return install


def seeing(distribution: str) -> dict[str, str]:
    """Return the environment variables of a process that sees its plugins, also where they are installed already."""
    return {**os.environ, DISABLE: left_out(seen=[distribution])}


@pytest.mark.integration
@pytest.mark.slow
def test_a_strangers_plugin_is_listed_and_trains(install: Install, layouts: Path, tmp_path: Path) -> None:
    environment = install(EXAMPLE)
    plugins = [environment, "-m", "imginav", "plugins"]
    listed = subprocess.run(
        plugins, capture_output=True, text=True, check=True, cwd=tmp_path, env=seeing("imginav-huber")
    )
    loss = next(line for line in listed.stdout.splitlines() if line.startswith("loss") and " huber " in line)
    assert "imginav-huber 0.1.0" in loss
    assert "Huber loss between an output and its target" in loss
    outer = subprocess.run([sys.executable, "-m", "imginav", "plugins"], capture_output=True, text=True, check=True)
    assert "huber" not in outer.stdout

    sets = [part for s in (*SETTINGS, f"data.manifest={layouts}") for part in ("--set", s)]
    command = [environment, "-m", "imginav", "run", ROOT / "phases" / "1_5.toml", *sets]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env=seeing("imginav-huber")
    )
    assert done.returncode == 0, done.stderr
    # The loss was trained with, and the callback stopped the run after its first epoch.
    own = tmp_path / "outputs" / "phase1_5_AE_final"
    header, *rows = (own / "phase1_5_AE_final_metrics.csv").read_text().splitlines()
    assert "train_loss_huber_weighted" in header
    assert len(rows) == 1
    assert "manifest.toml is there" in done.stdout


@pytest.mark.integration
@pytest.mark.slow
def test_a_strangers_command_is_listed_with_its_origin_and_runs(
    install: Install, layouts: Path, tmp_path: Path
) -> None:
    environment = install(COMMAND)

    def imginav(*arguments: str | Path, python: Path | str = environment) -> str:
        command = [python, "-m", "imginav", *arguments]
        seen = os.environ if python == sys.executable else seeing("imginav-count")
        shown = {**seen, "COLUMNS": "200"}
        done = subprocess.run(command, cwd=tmp_path, env=shown, capture_output=True, text=True, check=True)
        return done.stdout

    (line,) = (line for line in imginav("--help").splitlines() if line.split()[:1] == ["count"])
    assert line.endswith("of a phase are trained and validated on [imginav-count 0.1.0]")
    assert "count" not in imginav("--help", python=sys.executable)

    sets = ("--set", "data.type=layouts", "--set", f"data.manifest={layouts}", "--set", "data.image_size=64")
    counted = imginav("count", ROOT / "phases" / "1_5.toml", *sets)
    rows = len(layouts.read_text().splitlines()) - 1
    assert counted == f"phase1_5_AE_final: {rows} layouts\n"
    sweep = imginav("count", ROOT / "phases" / "1_1.toml", "--full", *sets, "--set", "data.count=8").splitlines()
    assert len(sweep) == 5
    assert all(line.endswith(": 8 layouts") for line in sweep)


def test_the_examples_are_as_small_as_promised() -> None:
    loss = (EXAMPLE / "imginav_huber" / "huber.py").read_text()
    assert len([line for line in loss.splitlines() if line.strip()]) <= 15
    command = (COMMAND / "imginav_count" / "__init__.py").read_text()
    assert len([line for line in command.splitlines() if line.strip()]) <= 15


def test_the_documented_example_is_the_one_that_is_installed() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    for path in (EXAMPLE / "imginav_huber" / "huber.py", COMMAND / "imginav_count" / "__init__.py"):
        assert path.read_text().strip() in inspect.cleandoc(page)
