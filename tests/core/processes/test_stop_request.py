"""Signals and time limits: what a run hears of them, and when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from imginav import UserError
from imginav.processes.stop_request import SIGNALS, Interrupted, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_leaves_a_note_and_the_run_hears_it_at_the_next_boundary(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    stop_request = StopRequest()
    with stop_request.install_handlers(), stop_request.deferred():
        assert stop_request.check(advanced=True) == ""
        os.kill(os.getpid(), number)
        assert stop_request.check(advanced=False) == number.name
    assert signal.getsignal(number) is before
    assert f"imginav: {number.name}: stops as soon as its state is saved" in capfd.readouterr().err


WORKING = """
import os, signal, time
from imginav.processes.stop_request import StopRequest
stop_request = StopRequest()
with stop_request.install_handlers(), stop_request.deferred():
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    print(stop_request.reason, flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("still there")
"""


def test_a_second_sigint_ends_the_process_and_a_second_sigterm_does_not() -> None:
    done = subprocess.run([sys.executable, "-c", WORKING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "SIGTERM\n")
    assert done.stderr.splitlines()[-1] == "imginav: SIGINT: stops as soon as its state is saved; Ctrl-C again: at once"


@pytest.mark.parametrize("number", SIGNALS)
def test_before_there_is_anything_to_save_a_signal_leaves_at_once(number: signal.Signals) -> None:
    with pytest.raises(Interrupted, match=number.name), StopRequest().install_handlers():
        os.kill(os.getpid(), number)


def test_a_signal_is_not_taken_for_a_fault_of_what_it_interrupts() -> None:
    # What imports plugins and reads weights catches any Exception.
    with pytest.raises(Interrupted), StopRequest().install_handlers(), suppress(Exception):
        os.kill(os.getpid(), signal.SIGTERM)


def test_in_another_thread_signals_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def run() -> None:
        with StopRequest().install_handlers():
            seen.append([signal.getsignal(number) for number in SIGNALS])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_time_limit_is_heard_early_enough_for_another_step_and_a_save(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stop_request = StopRequest(began=1000.0)
    stop_request.limit(10_000)
    times = []
    while not stop_request.check(advanced=True):
        times.append(clock[0] - 1000)
        clock[0] += 100  # a step, or a validation
    # A reserve of 60 s, and twice the longest way from one boundary to the next.
    assert clock[0] - 1000 == pytest.approx(10_000 - 60 - 2 * 100, abs=100)
    assert clock[0] - 1000 + 100 + 60 <= 10_000
    assert stop_request.check(advanced=True) == "its time limit"


def test_a_long_start_is_not_taken_for_a_long_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stop_request = StopRequest()
    stop_request.limit(10_000)
    clock[0] += 4000
    with stop_request.deferred():
        clock[0] += 10
        assert stop_request.check(advanced=True) == ""


def test_a_time_limit_waits_for_the_first_step_or_a_run_would_never_end() -> None:
    stop_request = StopRequest(began=time.monotonic() - 100)
    stop_request.limit(10)
    assert stop_request.time_is_up()
    assert stop_request.check(advanced=False) == ""
    assert stop_request.check(advanced=True) == "its time limit"


def test_without_a_limit_time_is_never_up() -> None:
    assert not StopRequest(began=0.0).time_is_up()


def test_a_run_that_must_not_save_is_told_so() -> None:
    stop_request = StopRequest()
    stop_request.ask("SIGTERM")
    stop_request.abort("another process has the run")
    with pytest.raises(UserError, match="another process has the run"):
        stop_request.check(advanced=True)


LOADING = """
import os, signal, sys, time
from imginav.processes.stop_request import ignore_signals_in_worker
read, write = os.pipe()
child = os.fork()
if not child:
    ignore_signals_in_worker()
    os.write(write, b"ready")
    time.sleep(60)
    os._exit(7)
os.read(read, 5)
sender = os.fork()  # somebody else, such as a scheduler
if not sender:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(child, number)
    os._exit(0)
os.waitpid(sender, 0)
time.sleep(0.5)
print(os.waitpid(child, os.WNOHANG))
os.kill(child, signal.SIGTERM)  # the run itself
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has sent a signal")
def test_a_loading_process_ends_by_its_run_alone() -> None:
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["(0, 0)", "0"]
