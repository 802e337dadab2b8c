"""Kills the process that it is called in at a chosen moment.

The moments are the operations by which a run changes what it holds and what lies on the disk. The process ends by
SIGKILL, which nothing can handle, when a moment comes for the chosen time.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imginav import files
from imginav.training.device import Device
from imginav.training.optimization import Optimization


class Strike:
    """Ends the process when its moment has come often enough."""

    def __init__(self, moment: str, number: int) -> None:
        self._moment = moment
        self._left = number

    def at(self, moment: str) -> bool:
        """Count a moment; return whether it is the one."""
        if self._moment and moment.startswith(self._moment):
            self._left -= 1
        return self._left == 0

    def now(self, moment: str) -> None:
        """End the process if this is the moment."""
        if self.at(moment):
            os.kill(os.getpid(), signal.SIGKILL)


def watch(strike: Strike) -> None:
    """Let the moments be noticed where they happen."""
    batch, step, write, replace = Device.batch, Optimization.step, files._write, Path.replace

    def watched_batch(self: Device, sample: Any) -> Any:
        strike.now("batch")
        return batch(self, sample)

    def watched_step(self: Optimization) -> None:
        strike.now("before step")
        step(self)
        strike.now("after step")

    def watched_write(path: Path, content: bytes | memoryview, keep: Path | None) -> None:
        if strike.at(f"half of {path.name}"):
            handle, _ = tempfile.mkstemp(prefix=f".{path.name}.", suffix=files.PART, dir=path.parent)
            os.write(handle, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, content, keep)

    def watched_replace(self: Path, target: Path) -> Path:
        strike.now(f"before the rename to {Path(target).name}")
        done = replace(self, target)
        strike.now(f"after the rename to {Path(target).name}")
        return done

    patches: list[tuple[object, str, Callable[..., Any]]] = [
        (Device, "batch", watched_batch),
        (Optimization, "step", watched_step),
        (files, "_write", watched_write),
        (Path, "replace", watched_replace),
    ]
    for place, name, function in patches:
        setattr(place, name, function)
