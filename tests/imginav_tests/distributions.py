"""Distributions with plugins, written into a folder that is on the path: no installer takes part."""

from __future__ import annotations

import importlib
from pathlib import Path

PAUSES = '''
import time
from typing import ClassVar

from attrs import frozen

from imginav import Callback, hookimpl


@frozen(kw_only=True)
class Pause(Callback):
    """Waits after each step, and after the training."""

    observer: ClassVar[bool] = True

    step_seconds: float = 0.0
    end_seconds: float = 0.0

    @hookimpl
    def step_finished(self):
        time.sleep(self.step_seconds)

    @hookimpl
    def training_finished(self):
        time.sleep(self.end_seconds)


@hookimpl
def imginav_components(registry):
    registry.add("callback", "pause", Pause)
'''
"""A callback for runs that have to last for a while; it sleeps, so that other tests have the processors."""


def write(
    folder: Path, distribution: str, entry_point: str, source: str | None, *, module: str = "", group: str = "imginav"
) -> None:
    """Write a distribution of version 1.2: its metadata, and its module unless its files are there already."""
    name = module or distribution.replace("-", "_")
    if source is not None:
        (folder / f"{name}.py").write_text(source)
    info = folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry_point} = {name}\n")
    importlib.invalidate_caches()


def write_pauses(folder: Path) -> None:
    """Write a distribution with the callback `pause`."""
    write(folder, "pauses", "pauses", PAUSES)
