"""Child processes: they end with their parent and report how they ended; and whether any process is still alive."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import asdict, frozen

from imginav.errors import UserError
from imginav.exit_status import FAILED, REQUEUE, USER_ERROR
from imginav.files import write_text
from imginav.processes.stop_request import Interrupted, ignore_signals
from imginav.verbosity import shows_traceback

FILE = "ending.json"


@frozen(kw_only=True)
class Ending:
    """Why a process ended, as it reports it to its parent and to the other processes of its run."""

    status: int  # exit status
    reason: str
    rank: int = 0
    host: str = ""

    @classmethod
    def of(cls, error: BaseException, *, rank: int = 0, host: str = "") -> Ending:
        """Return the ending of a process in which this was raised."""
        if isinstance(error, (Interrupted, UserError)):
            status, reason = REQUEUE if isinstance(error, Interrupted) else USER_ERROR, str(error)
        else:
            status, reason = FAILED, f"{type(error).__name__}: {error}"
        return cls(status=status, reason=reason, rank=rank, host=host)

    def error(self) -> BaseException:
        """Return the exception that the other processes raise; it names rank and host unless it is rank 0's."""
        if self.status == REQUEUE:
            return Interrupted(self.reason)
        return UserError(f"process {self.rank} on {self.host}: {self.reason}" if self.rank else self.reason)

    def report(self, folder: Path) -> None:
        """Write it to the folder that the parent reads; if that fails, the parent still has the exit status."""
        with suppress(UserError):
            write_text(folder / FILE, json.dumps(asdict(self)), patient=False)

    @classmethod
    def reported(cls, folder: Path) -> Ending | None:
        """Return what a child reported, or None if it reported nothing."""
        return cls(**json.loads((folder / FILE).read_text())) if (folder / FILE).exists() else None


@contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """Report to the parent what is raised inside, and exit with its status."""
    try:
        yield
    except (Exception, Interrupted) as error:  # noqa: BLE001  # the parent names it
        ignore_signals()
        ending = Ending.of(error)
        if ending.status != REQUEUE and shows_traceback(error):
            traceback.print_exc()
        ending.report(folder)
        sys.exit(ending.status)


def describe_exit(status: int | None) -> str:
    """Return how a process ended, to follow its name: by its exit status, negative for a signal; None if unknown."""
    if status is not None and status >= 0:
        return f"ended with status {status}"
    cause = "from outside" if status is None else f"by {signal.Signals(-status).name}"
    out_of_memory = ", as the system does when memory runs out" if cause in ("from outside", "by SIGKILL") else ""
    return f"was ended {cause}{out_of_memory}"


def end_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Send this process a signal as soon as its parent is gone: nobody would know that it still runs."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()


def living_process(number: int) -> str | None:
    """Return a living process as its number and start time, or None if there is no such process."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # another user's, but alive
        pass
    try:
        # The name in parentheses may hold spaces; the state comes after it, and the start time is the 20th field.
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return str(number)
    return None if fields[0] in "ZX" else f"{number} {fields[19]}"
