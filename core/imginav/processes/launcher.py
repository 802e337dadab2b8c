"""What the processes of a run and the one that has started them tell each other."""

from __future__ import annotations

import json
import os
from pathlib import Path

from attrs import asdict, frozen

from imginav.processes.children import end_with_parent

LAUNCHER = "IMGINAV_LAUNCHER"
"""The environment variable in which `imginav run --gpus` tells its processes about itself."""


def are_several() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@frozen(kw_only=True)
class Launcher:
    """The process that has started those of a run on this machine."""

    process: int
    began: float  # when its command did, by time.monotonic(), for a time limit
    folder: Path  # where its processes register, and report why they end
    concludes: bool  # whether the first process compares the experiments of the phase in the end

    @classmethod
    def of_this_process(cls) -> Launcher | None:
        """Return who has started this process, if anybody has."""
        if not (text := os.environ.get(LAUNCHER)):
            return None
        told = json.loads(text)
        return cls(**{**told, "folder": Path(told["folder"])})

    def to_text(self) -> str:
        """Return it as text, for `of_this_process`."""
        return json.dumps(asdict(self), default=str)

    def meet(self) -> None:
        """Tell that this process is there and hears signals; it gets one when the launcher is gone."""
        (self.folder / f"process {os.getpid()}").touch()
        end_with_parent(self.process)

    def processes(self) -> set[int]:
        """Return those of its processes that have come so far."""
        return {int(path.name.partition(" ")[2]) for path in self.folder.glob("process *")}
