"""Children end with their parent and report how they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imginav import UserError
from imginav.exit_status import FAILED, REQUEUE, USER_ERROR
from imginav.processes.children import Ending, describe_exit, reporting
from imginav.processes.stop_request import SIGNALS, Interrupted

CHILD = """
import os, signal, sys, time
from imginav.processes.children import end_with_parent
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"SIGTERM"), os._exit(0)))
end_with_parent(int(sys.argv[1]), signal.Signals(int(sys.argv[2])))
print("ready", flush=True)
time.sleep(60)
print("still there", flush=True)
"""

PARENT = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), sys.argv[2]])
time.sleep(60)
"""


@pytest.mark.parametrize(("number", "heard"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGKILL, "")])
def test_a_child_gets_a_signal_when_its_parent_is_gone(number: signal.Signals, heard: str) -> None:
    command = [sys.executable, "-c", PARENT, CHILD, str(int(number))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        assert parent.communicate(timeout=30)[0] == heard  # until the child, which has the same output, is gone too


def test_a_child_whose_parent_is_gone_already_gets_it_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    command = [sys.executable, "-c", CHILD, str(gone.pid), str(int(signal.SIGTERM))]
    assert subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30).stdout.removeprefix("ready\n") == (
        "SIGTERM"
    )


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (3, "ended with status 3"),
        (-signal.SIGKILL, "was ended by SIGKILL, as the system does when memory runs out"),
        (-signal.SIGSEGV, "was ended by SIGSEGV"),
        (None, "was ended from outside, as the system does when memory runs out"),
    ],
)
def test_how_a_process_ended_is_one_phrase(status: int | None, said: str) -> None:
    assert describe_exit(status) == said


@pytest.mark.parametrize(
    ("error", "ending", "traceback"),
    [
        (Interrupted("SIGTERM"), Ending(status=REQUEUE, reason="SIGTERM"), False),
        (UserError("it fails; mend it"), Ending(status=USER_ERROR, reason="it fails; mend it"), False),
        (ZeroDivisionError("by zero"), Ending(status=FAILED, reason="ZeroDivisionError: by zero"), True),
    ],
)
def test_a_child_reports_its_ending_and_exits_with_its_status(
    error: BaseException, ending: Ending, traceback: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    child = os.fork()
    if not child:
        try:
            with reporting(tmp_path):
                raise error
        except SystemExit as left:
            # What its parent asks now comes too late, and does not end it otherwise.
            for number in SIGNALS:
                os.kill(os.getpid(), number)
            os._exit(int(str(left.code)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ending.status
    assert Ending.reported(tmp_path) == ending
    assert ("Traceback" in capfd.readouterr().err) == traceback


def test_a_child_that_reports_nothing_or_cannot(tmp_path: Path) -> None:
    assert Ending.reported(tmp_path) is None
    (tmp_path / "file").touch()
    Ending(status=FAILED, reason="it fails").report(tmp_path / "file")
    with reporting(tmp_path):
        pass
    assert Ending.reported(tmp_path) is None
