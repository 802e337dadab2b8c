"""Waiting for what other processes do."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from imginav_tests import commands


def wait_until(
    condition: Callable[[], object],
    process: commands.Command | subprocess.Popen[Any] | None = None,
    seconds: float = 120,
    pause: float = 0.02,
) -> None:
    """Return once the condition holds; fail when that takes too long, or when the process has ended before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"ended too early: {process.communicate()[0]}"
        assert time.monotonic() < end, f"waited for {seconds} seconds in vain"
        time.sleep(pause)


def status_of(process: subprocess.Popen[Any], seconds: float = 60) -> int:
    """Return the exit status of a process; one that hangs is aborted, and prints its stacks with `-X faulthandler`."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        return process.wait()
