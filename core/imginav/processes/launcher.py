"""What the processes of a run and the one that has started them tell each other."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from attrs import asdict, frozen

from imginav.errors import UserError
from imginav.exit_status import REQUEUE
from imginav.processes.stop_request import Interrupted

LAUNCHER = "IMGINAV_LAUNCHER"
"""The environment variable in which `imginav run --gpus` tells its processes about itself."""


def are_several() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@frozen(kw_only=True)
class Ending:
    """Why a process of a run has ended it for all of them."""

    status: int  # the exit status of each
    reason: str
    rank: int = 0
    host: str = ""

    def error(self) -> BaseException:
        """Return it as what is raised for it in the other processes."""
        return Interrupted(self.reason) if self.status == REQUEUE else UserError(self.shown)

    @property
    def shown(self) -> str:
        """The reason, and whose it is unless that is the first process's."""
        return f"process {self.rank} on {self.host}: {self.reason}" if self.rank else self.reason


@frozen(kw_only=True)
class Launcher:
    """The process that has started those of a run on this machine."""

    process: int
    began: float  # when its command did, by time.monotonic(), for a time limit
    folder: Path  # where its processes write what it has to know
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
        threading.Thread(target=self._leave_with_it, daemon=True).start()

    def _leave_with_it(self) -> None:
        while os.getppid() == self.process:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    def processes(self) -> set[int]:
        """Return those of its processes that have come so far."""
        return {int(path.name.partition(" ")[2]) for path in self.folder.glob("process *")}

    def tell(self, ending: Ending) -> None:
        """Let it know why its processes end."""
        with suppress(OSError):  # it tells what it can find out by itself
            handle, name = tempfile.mkstemp(dir=self.folder)
            with os.fdopen(handle, "w") as stream:
                json.dump(asdict(ending), stream)
            Path(name).replace(self.folder / "ending.json")

    def ending(self) -> Ending | None:
        """Return why its processes have ended, where they have told."""
        try:
            return Ending(**json.loads((self.folder / "ending.json").read_text()))
        except FileNotFoundError:
            return None
