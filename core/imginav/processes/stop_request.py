"""What ends a run before its training is done: a signal, or its time limit."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

from imginav.errors import UserError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""What schedulers send before they end a job, and what a terminal sends for Ctrl-C."""

LARGEST_RESERVE_SECONDS = 60.0

RESERVED_SHARE = 0.05
"""Of a time limit, kept for the last save; at most `LARGEST_RESERVE_SECONDS`."""


class Interrupted(BaseException):  # no error: the run goes on where it was
    """The run was asked to leave, and left with what it needs to go on.

    Like KeyboardInterrupt it is no Exception: who catches these would take a signal for a fault of what it was doing.
    """


class Superseded(UserError):  # noqa: N818  # it is not what is wrong, but what has happened
    """Another process has taken over the run: nothing of it is to be written any more."""


class StopRequest:
    """Whether a run is asked to leave. The trainer asks between two steps, when all that it keeps belongs together.

    A signal does nothing but leave a note here: a handler that saved would save in the middle of a step.
    """

    def __init__(self, began: float | None = None) -> None:
        """Count the time from `began`, a `time.monotonic()` of this machine; none: from now on."""
        self.reason = ""  # why it is asked to leave; empty: it is not
        self.fault = ""  # why it must not even save; empty: it may
        self.began = time.monotonic() if began is None else began
        self.quiet = False  # whether another process tells that a signal was heard
        self._limit: float | None = None
        self._last = time.monotonic()
        self._longest = 0.0  # between two boundaries: steps, saves, pictures
        self._deferred = False

    def ask(self, reason: str) -> None:
        """Ask the run to save and leave."""
        self.reason = self.reason or reason

    def abort(self, fault: str) -> None:
        """Make the run leave without writing any more."""
        self.fault = self.fault or fault

    def limit(self, seconds: float) -> None:
        """Ask the run to leave early enough to be gone when so many seconds have passed since `began`."""
        self._limit = seconds

    def check(self, *, advanced: bool) -> str:
        """Return why the run is to leave now, between two steps, or nothing; raises Superseded where it must not save.

        The time limit counts once the run has `advanced`: without a step in each attempt, it would never end. This is
        asked at each boundary: the longest way from one to the next is kept as a reserve.
        """
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        if self.fault:
            raise Superseded(self.fault)
        return self.reason or ("its time limit" if advanced and self.time_is_up() else "")

    def time_is_up(self) -> bool:
        """Whether the time limit leaves too little for another step and a save."""
        if self._limit is None:
            return False
        reserve = min(LARGEST_RESERVE_SECONDS, RESERVED_SHARE * self._limit) + 2 * self._longest
        return time.monotonic() - self.began + reserve >= self._limit

    @contextmanager
    def install_handlers(self) -> Iterator[None]:
        """Take the signals as long as what is inside runs: it raises Interrupted at once, as nothing is to be saved.

        In a thread other than the main one, which Python gives no signals, it does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see block_signals
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let what is inside go on after a signal until it asks; a second SIGINT ends the process at once."""
        self._deferred = True
        # What came before, such as the opening of the layouts, tells nothing of how long a step takes.
        self._last = time.monotonic()
        try:
            yield
        finally:
            self._deferred = False

    def _hear(self, number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        self.ask(name)
        if not self._deferred:
            raise Interrupted(name)
        if number == signal.SIGINT:
            # The next one is the system's to handle: Python would first finish the step that it is in.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.quiet:
            return
        # print() may be what was interrupted, and cannot be entered twice.
        again = "; Ctrl-C again: at once" if number == signal.SIGINT else ""
        said = f"imginav: {name}: stops as soon as its state is saved{again}\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, said.encode())


@contextmanager
def block_signals() -> Iterator[None]:
    """Hold signals back until it ends; in a process that is started inside, until that one is `install_handlers`.

    In the seconds that it takes to import torch, a signal would end it as it ends any program.
    """
    resource_tracker.ensure_running()  # which multiprocessing would start with the process, and unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals(numbers: Iterable[signal.Signals] = SIGNALS) -> None:
    """Ignore signals from now on, such as all of them once nothing is left to save."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def ignore_signals_in_worker(_: int = 0) -> None:
    """Let a loading process ignore the signals, which schedulers and terminals send to all processes of a job.

    The run that it loads for still ends it.
    """
    ignore_signals(number for number in SIGNALS if number != signal.SIGTERM)
    if sys.platform == "linux":  # elsewhere nobody can tell who has sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_parent_says, daemon=True).start()


def _end_when_parent_says() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
