"""`imginav new plugin`: a package of each kind that installs, is listed and passes its own tests."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import tomli

from imginav.cli import main
from imginav.plugin.commands import Commands, add_installed
from imginav.plugin.discovery import DISABLE
from imginav.plugin.registry import Registry, installed
from imginav_project.kinds import COMMAND, KINDS
from imginav_project.plugin_package import PluginPackage
from imginav_tests.foreign_plugins import left_out


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_a_template_for_each_kind_that_is_installed(registry: Registry) -> None:
    assert {*KINDS} == {registration.kind for registration in registry} | {COMMAND}


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_offers_what_it_is_named_after(
    kind: str, site_packages: Path, install: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """As when it is installed: its package is on the path, with the entry point of its own pyproject.toml."""
    assert main(["new", "plugin", "own-sharp", "--kind", kind, "--to", str(site_packages)]) == 0
    assert "pip install -e '.[test]' && pytest" in capsys.readouterr().out
    project = tomli.loads((site_packages / "pyproject.toml").read_text())["project"]
    ((group, entries),) = project["entry-points"].items()
    ((entry_point, module),) = entries.items()
    install(project["name"], entry_point, module=module, group=group)
    if kind == COMMAND:
        commands = Commands()
        add_installed(commands)
        found = {command.name: command.provider.distribution for command in commands}
        assert found["own-sharp"] == "imginav-own-sharp"
    else:
        (registration,) = (r for r in installed() if r.provider.distribution == "imginav-own-sharp")
        assert (registration.kind, registration.name) == (kind, "own_sharp")
        assert registration.component.__name__ == f"OwnSharp{KINDS[kind]}"
        assert registration.description
    readme = (site_packages / "README.md").read_text()
    assert "own_sharp" in readme or "own-sharp" in readme
    for path in site_packages.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
        assert max(map(len, path.read_text().splitlines())) <= 120, path


@pytest.mark.integration
@pytest.mark.slow
def test_a_package_of_each_kind_is_installed_listed_and_passes_its_own_tests(tmp_path: Path) -> None:
    """All in one environment, and their tests in one process, so that torch is installed and imported once."""
    for kind in KINDS:
        assert main(["new", "plugin", f"own-{kind.replace('_', '-')}", "--kind", kind]) == 0
    packages = sorted(tmp_path.glob("imginav-own-*"))
    assert len(packages) == len(KINDS)
    site = tmp_path / "site"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *packages], check=True, capture_output=True)
    seen = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")])),
        DISABLE: left_out("reports", seen=[package.name for package in packages]),  # pages take most of the time
    }

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=seen, cwd=tmp_path, capture_output=True, text=True, check=False)

    listed = run(sys.executable, "-m", "imginav", "plugins").stdout.splitlines()
    kinds = {line.split()[0] for line in listed if "imginav-own-" in line}
    assert kinds == {*KINDS} - {COMMAND}
    assert "[imginav-own-command 0.1.0]" in run(sys.executable, "-m", "imginav", "--help").stdout
    tests = [package / "tests" for package in packages]
    done = run(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout
    passed = [line for line in done.stdout.splitlines() if " PASSED" in line]
    for kind in KINDS:
        assert any(f"test_{kind}.py::" in line for line in passed), kind


@pytest.mark.parametrize(
    ("name", "kind", "names"),
    [
        ("sharp", "loss", ("sharp", "imginav_sharp", "imginav-sharp", "SharpLoss")),
        (
            "imginav-sharp_edges",
            "loss",
            ("sharp_edges", "imginav_sharp_edges", "imginav-sharp-edges", "SharpEdgesLoss"),
        ),
        ("sharp-edges", "command", ("sharp-edges", "imginav_sharp_edges", "imginav-sharp-edges", "SharpEdgesCommand")),
        ("edge_loss", "loss", ("edge_loss", "imginav_edge_loss", "imginav-edge-loss", "EdgeLoss")),
        ("loss", "loss", ("loss", "imginav_loss", "imginav-loss", "LossLoss")),
        ("class", "lr_schedule", ("class", "imginav_class", "imginav-class", "ClassLRSchedule")),
        ("imginav", "head", ("imginav", "imginav_imginav", "imginav-imginav", "ImginavHead")),
    ],
)
def test_all_names_follow_from_one(name: str, kind: str, names: tuple[str, ...]) -> None:
    package = PluginPackage(name=name, kind=kind)
    assert (package.component, package.module, package.distribution, package.class_name) == names


@pytest.mark.parametrize(
    "name", ["Sharp", "1sharp", "sharp loss", "sharp-", "-sharp", "sharp--er", "../sharp", "", "é"]
)
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "plugin", "--", name]) == 2
    error = capsys.readouterr().err
    assert error == f"imginav: {name!r}: a plugin's name is of small letters, digits, - and _, such as sharpness\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("kld", "loss", "kld: plugin 'losses' of imginav VERSION has the loss 'kld'; take another name"),
        ("run", "command", "run: imginav VERSION has the command 'run'; take another name"),
        ("check", "command", "check: plugin 'inspect' of imginav VERSION has the command 'check'; take another name"),
        ("losses", "loss", "losses: the module imginav_losses is installed already; take another name"),
    ],
)
def test_a_name_that_is_taken_is_refused(
    name: str, kind: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "plugin", name, "--kind", kind]) == 2
    assert capsys.readouterr().err == f"imginav: {message}\n".replace("VERSION", version("imginav"))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("imginav-sharp").mkdir()
    assert main(["new", "plugin", "sharp"]) == 0  # an empty folder is as good as none
    assert main(["new", "plugin", "sharp", "--kind", "head"]) == 2
    assert capsys.readouterr().err == (
        "imginav: imginav-sharp is not empty, and imginav new overwrites nothing; name another folder with --to\n"
    )
    assert not Path("imginav-sharp/imginav_sharp/head.py").exists()
    Path("file").write_text("mine")
    assert main(["new", "plugin", "sharp", "--to", "file"]) == 2
    assert capsys.readouterr().err == "imginav: file is a file; name a folder to write with --to\n"


def test_an_unknown_kind_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "plugin", "sharp", "--kind", "los"]) == 2
    assert "lr_schedule" in capsys.readouterr().err
