"""Interrupts in a kernel."""

from __future__ import annotations

import os
import signal

import pytest

from imginav.processes.stop_request import Interrupted
from imginav_api.stopping import KernelStopRequest, stops_as_keyboard_interrupt


def test_interrupts_ask_and_never_end_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    request = KernelStopRequest()
    with request.install_handlers(), request.deferred():
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        assert request.check(advanced=True) == "SIGINT"
    assert signal.getsignal(signal.SIGINT) == before
    assert "again: at once" not in capfd.readouterr().err


def test_before_there_is_a_state_to_save_it_stops_at_once() -> None:
    request = KernelStopRequest()
    with pytest.raises(Interrupted, match="SIGINT"), request.install_handlers():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_run_that_has_stopped_is_a_keyboard_interrupt() -> None:
    with (
        pytest.raises(KeyboardInterrupt, match="stopped by SIGINT, state saved; call it again to resume"),
        stops_as_keyboard_interrupt("call it again"),
    ):
        raise Interrupted("SIGINT")
