"""Interrupting a cell: what runs stops with its state saved, and the kernel lives on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from imginav.processes.stop_request import Interrupted, StopRequest


class KernelStopRequest(StopRequest):
    """A stop request whose second SIGINT does not end the process, which would take a kernel's variables with it."""

    def __init__(self) -> None:
        super().__init__()
        self.quiet = True  # the note on stderr says that a second one ends it

    def _hear(self, number: int, frame: FrameType | None) -> None:
        try:
            super()._hear(number, frame)
        finally:
            if number == signal.SIGINT:
                signal.signal(signal.SIGINT, self._hear)


@contextmanager
def stops_as_keyboard_interrupt(again: str) -> Iterator[None]:
    """Raise KeyboardInterrupt for a run that has stopped with its state saved; `again` says how it resumes."""
    try:
        yield
    except Interrupted as error:
        raise KeyboardInterrupt(f"stopped by {error}, state saved; {again} to resume") from None
