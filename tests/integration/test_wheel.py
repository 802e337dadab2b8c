"""The wheel, installed outside of the clone: it has all that imginav needs, and the first commands work from it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import tomli

from imginav import __version__
from imginav.plugin.discovery import DISABLE
from imginav_tests.foreign_plugins import left_out

ROOT = Path(__file__).parents[2]

TINY = (
    "data.count=8",
    "data.image_size=64",
    "data.crop=32",
    "data.crops=1",
    "encoder.base_channels=16",
    "encoder.latent_channels=4",
    "train.epochs=1",
    "train.split=0.5",
    "evaluation.sampled_layouts=2",
)


def build(target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


def files(folder: str) -> set[str]:
    """Return the files of a folder of the repository, as paths from its top."""
    found = (ROOT / folder).rglob("*")
    return {str(path.relative_to(ROOT)) for path in found if path.is_file() and "__pycache__" not in path.parts}


def packages() -> list[str]:
    wheel = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    return [name for name in wheel["packages"] if name != "phases"]


def test_every_package_is_typed() -> None:
    assert [package for package in packages() if not (ROOT / package / "py.typed").is_file()] == []


@pytest.mark.integration
def test_the_wheel_and_the_source_archive_hold_every_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", tmp_path / "wheel")) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    wanted = {f"imginav/{name}" for name in files("phases")}
    for package in packages():
        wanted |= {name.removeprefix(f"{Path(package).parent}/") for name in files(package)}
    assert {"imginav/phases/1_5.toml", "imginav_project/templates/plugin/kinds/loss.py.j2"} <= wanted
    assert wanted - names == set()
    assert {name for name in names - wanted if ".dist-info/" not in name} == set()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "Typing :: Typed" in metadata
    with tarfile.open(build("sdist", tmp_path / "sdist")) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert files("core") | files("plugins") | files("phases") <= inside
    assert {"LICENSE", "README.md", "pyproject.toml"} <= inside


@pytest.mark.integration
@pytest.mark.slow
def test_the_first_commands_work_from_the_wheel_outside_of_the_clone(tmp_path: Path) -> None:
    wheel = build("wheel", tmp_path / "dist")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    # torch takes gigabytes: what imginav needs is seen from the environment of the tests, and comes after the wheel.
    site = next((environment / "lib").glob("python*/site-packages"))
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    options = ["--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    install = [sys.executable, "-m", "pip", "--python", python, "install", *options, wheel]
    subprocess.run(install, check=True, capture_output=True)
    seen = {**os.environ, DISABLE: left_out(), "PYTHONPATH": "", "COLUMNS": "200"}

    def run(*command: str | Path, cwd: Path = tmp_path) -> str:
        done = subprocess.run(command, cwd=cwd, env=seen, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    imginav = environment / "bin" / "imginav"
    code = (
        "import imginav, imginav_project, imginav_losses as l; print(imginav.__version__, imginav.__file__, l.__file__)"
    )
    version, *files = run(python, "-c", code).split()
    assert version == __version__
    assert all(Path(file).is_relative_to(site) for file in files)

    # Without phases in the working folder, those of the wheel are meant.
    checked = run(imginav, "check", "1.5", "--set", "data.count=40")
    assert checked.startswith(f"{site / 'imginav' / 'phases' / '1_5.toml'}: ")

    assert "cd demo && imginav run 1.5 --quick" in run(imginav, "init", "demo")
    demo = tmp_path / "demo"
    assert run(imginav, "check", "1.5", "--set", "data.count=40", cwd=demo).startswith("phases/1_5.toml: ")
    settings = [part for setting in TINY for part in ("--set", setting)]
    printed = run(imginav, "run", "1.5", *settings, cwd=demo)
    assert "outputs/phase1_5_AE_final/report.html" in printed
    assert str(ROOT) not in printed
    assert (demo / "outputs/phase1_5_AE_final/report.html").stat().st_size > 10_000

    run(imginav, "new", "plugin", "sharpness")
    assert (tmp_path / "imginav-sharpness/tests/test_loss.py").is_file()
