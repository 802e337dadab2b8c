"""The third-party plugin in `examples/`, installed with pip as a stranger would."""

from __future__ import annotations

import inspect
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "huber"

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


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Make a fresh environment that sees imginav and what it needs, and install the example into it."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=True)
    # torch takes gigabytes: what is installed already is seen from the fresh environment, which alone gets the plugin.
    packages = next((folder / "lib").glob("python*/site-packages"))
    (packages / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", str(EXAMPLE)]
    subprocess.run([folder / "bin" / "python", *install], check=True, capture_output=True)
    return folder / "bin" / "python"


@pytest.mark.integration
@pytest.mark.slow
def test_a_strangers_plugin_is_listed_and_trains(environment: Path, layouts: Path, tmp_path: Path) -> None:
    listed = subprocess.run(
        [environment, "-m", "imginav", "plugins"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    loss = next(line for line in listed.stdout.splitlines() if line.startswith("loss") and " huber " in line)
    assert "imginav-huber 0.1.0" in loss
    assert "Huber loss between an output and its target" in loss
    outer = subprocess.run([sys.executable, "-m", "imginav", "plugins"], capture_output=True, text=True, check=True)
    assert "huber" not in outer.stdout

    sets = [part for s in (*SETTINGS, f"data.manifest={layouts}") for part in ("--set", s)]
    command = [environment, "-m", "imginav", "run", ROOT / "phases" / "1_5.toml", *sets]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The loss was trained with, and the callback stopped the run after its first epoch.
    own = tmp_path / "outputs" / "phase1_5_AE_final"
    header, *rows = (own / "phase1_5_AE_final_metrics.csv").read_text().splitlines()
    assert "train_loss_huber_weighted" in header
    assert len(rows) == 1
    assert "manifest.toml is there" in done.stdout


def test_the_example_is_as_small_as_promised() -> None:
    loss = (EXAMPLE / "imginav_huber" / "huber.py").read_text()
    assert len([line for line in loss.splitlines() if line.strip()]) <= 15


def test_the_documented_example_is_the_one_that_is_installed() -> None:
    loss = (EXAMPLE / "imginav_huber" / "huber.py").read_text()
    assert loss.strip() in inspect.cleandoc((ROOT / "docs" / "plugins.md").read_text())
