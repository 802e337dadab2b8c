"""Plugins of other distributions in the same environment are not seen by the suite, nor by processes that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imginav.plugin.discovery import DISABLE

ROOT = Path(__file__).parents[1]

LOSS = """
from attrs import frozen
from imginav import Loss, hookimpl

@frozen(kw_only=True)
class Strange(Loss):
    '''A loss that no document knows.'''
    strangeness: int = 1
    def __call__(self, outputs, batch):
        return outputs[self.output].mean()

@hookimpl
def imginav_components(registry):
    registry.add("loss", "strange", Strange)
"""

COMMAND = """
from imginav import hookimpl

def strange(options):
    '''Do what no document knows.'''
    return 0

@hookimpl
def imginav_commands(commands):
    commands.add("strange", strange)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Install a stranger's loss and command; return the environment variables by which a process sees them."""
    (tmp_path / "strange_loss.py").write_text(LOSS)
    (tmp_path / "strange_command.py").write_text(COMMAND)
    info = tmp_path / "a_stranger-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-stranger\nVersion: 1.2\n")
    points = "[imginav]\nstrange = strange_loss\n[imginav.commands]\nstrange = strange_command\n"
    (info / "entry_points.txt").write_text(points)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_") and name != DISABLE}
    return {**own, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.slow
def test_a_plugin_that_is_installed_beside_imginav_changes_no_test(environment: dict[str, str]) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "imginav", "plugins"], env=environment, capture_output=True, text=True, check=True
    )
    assert "strange" in listed.stdout
    names = [
        "every_component_and_its_keys_are_documented",  # found while tests are collected
        "every_command_is_documented",
        "the_list_of_plugins_in_the_readme_is_what_is_printed",  # by a process of its own
    ]
    chosen = [f"tests/test_docs.py::test_{name}" for name in names]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
