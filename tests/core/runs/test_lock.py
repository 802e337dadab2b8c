"""One process a run, on one machine and on several."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import asdict, evolve

from imginav import UserError
from imginav.runs import lock
from imginav.runs.lock import Holder, RunLock, is_held, lock_file
from imginav_tests.waiting import wait_until

HOLDING = """
import sys, time
from pathlib import Path
from imginav.runs.lock import RunLock
with RunLock(Path(sys.argv[1]), lost=print):
    print("held", flush=True)
    time.sleep(60)
"""

LOCKING = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("free")
    except OSError:
        print("locked")
"""

ELSEWHERE = Holder(host="node7", machine="another boot", process="4711 5", nonce="t", beat=3)


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process that holds the lock of `tmp_path / "run"`."""
    started = []

    def hold() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDING, str(tmp_path / "run")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "WATCHED_SECONDS", 0.5)
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.05)


def take(root: Path, lines: list[str] | None = None) -> RunLock:
    return RunLock(root, lost=pytest.fail, log=(lines if lines is not None else []).append)


def write(path: Path, holder: Holder) -> None:
    path.write_text(json.dumps(asdict(holder)))


def test_a_second_process_is_refused_and_told_who_holds_it(
    tmp_path: Path, hold: Callable[[], subprocess.Popen[str]]
) -> None:
    process = hold()
    root = tmp_path / "run"
    assert is_held(root)
    with pytest.raises(UserError, match=f"run is being written by process {process.pid} on .*; wait for it, or end"):
        take(root)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not is_held(root)
    # What it left behind is recognised, and removed with the next lock.
    assert lock_file(root).exists()
    with take(root):
        assert is_held(root)
    assert list(tmp_path.iterdir()) == []


def test_the_same_process_cannot_take_it_twice(tmp_path: Path) -> None:
    with take(tmp_path / "run"):
        for _ in range(2):
            with pytest.raises(UserError, match=f"is being written by process {os.getpid()} on"):
                take(tmp_path / "run")
        assert is_held(tmp_path / "run")
        # To open and close the file, as the second did, would have given the record lock back.
        tried = [sys.executable, "-c", LOCKING, str(lock_file(tmp_path / "run"))]
        assert subprocess.run(tried, capture_output=True, text=True, check=True).stdout == "locked\n"
    with take(tmp_path / "run"), take(tmp_path / "other"):
        pass


def test_it_is_given_back_also_after_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), take(tmp_path / "run"):
        raise ZeroDivisionError
    assert not is_held(tmp_path / "run")
    with take(tmp_path / "run"):
        pass


def test_folders_that_were_made_for_it_alone_go_with_it(tmp_path: Path) -> None:
    with take(tmp_path / "a" / "b" / "run"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with take(tmp_path / "a" / "run"):
        (tmp_path / "a" / "run").mkdir()
    assert (tmp_path / "a" / "run").is_dir()


def test_a_disk_without_record_locks_does_with_the_file(
    tmp_path: Path, hold: Callable[[], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    process = hold()
    monkeypatch.setattr(fcntl, "lockf", lockf)
    lines: list[str] = []
    with pytest.raises(UserError, match=f"is being written by process {process.pid}"):
        take(tmp_path / "run", lines)
    process.kill()
    process.wait()
    with take(tmp_path / "run", lines):
        pass
    assert lines == []  # of a process on this machine one knows at once


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells a dead process from a living one")
def test_a_dead_process_that_nobody_has_taken_note_of_holds_nothing(
    tmp_path: Path, hold: Callable[[], subprocess.Popen[str]]
) -> None:
    process = hold()
    process.kill()
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
    assert not is_held(tmp_path / "run")
    with take(tmp_path / "run"):
        pass


def test_a_process_number_that_is_used_again_is_not_the_holder(tmp_path: Path) -> None:
    here = Holder(host="h", machine=lock._machine(), process=f"{os.getpid()} 1", nonce="t", beat=0)
    write(lock_file(tmp_path / "run"), here)
    with take(tmp_path / "run"):
        pass


@pytest.mark.usefixtures("quick")
def test_a_holder_on_another_machine_that_gives_no_sign_of_life_is_taken_for_gone(tmp_path: Path) -> None:
    root = tmp_path / "run"
    write(lock_file(root), ELSEWHERE)
    lines: list[str] = []
    with take(root, lines):
        assert json.loads(lock_file(root).read_text())["process"].split()[0] == str(os.getpid())
    assert lines == [
        "run was last written by process 4711 on node7; watches for up to 0 s whether it lives",
        "process 4711 on node7 shows no sign of life: takes over from it",
    ]


@pytest.mark.usefixtures("quick")
def test_a_holder_on_another_machine_that_lives_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "run"
    write(lock_file(root), ELSEWHERE)
    timer = threading.Timer(0.2, write, (lock_file(root), evolve(ELSEWHERE, beat=4)))
    timer.start()
    with pytest.raises(UserError, match="run is being written by process 4711 on node7"):
        take(root)
    timer.join()
    assert json.loads(lock_file(root).read_text())["host"] == "node7"


@pytest.mark.usefixtures("quick")
def test_a_living_holder_raises_its_number(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with take(root):
        seen = set()
        until = time.monotonic() + 20
        while len(seen) < 3 and time.monotonic() < until:
            seen.add(json.loads(lock_file(root).read_text() or '{"beat": 0}')["beat"])
        assert len(seen) == 3


@pytest.mark.usefixtures("quick")
def test_who_stood_still_and_lost_its_lock_is_told_and_leaves_the_new_one_alone(tmp_path: Path) -> None:
    root = tmp_path / "run"
    told = threading.Event()
    faults: list[str] = []

    def lost(fault: str) -> None:
        faults.append(fault)
        told.set()

    with RunLock(root, lost=lost):
        write(lock_file(root), ELSEWHERE)
        assert told.wait(20)
    assert faults == ["process 4711 on node7 has taken over the run, because this process stood still; it leaves"]
    assert json.loads(lock_file(root).read_text())["nonce"] == "t"


def test_a_run_on_another_machine_is_shown_as_running_until_it_is_silent_for_long(tmp_path: Path) -> None:
    path = lock_file(tmp_path / "run")
    write(path, ELSEWHERE)
    assert is_held(tmp_path / "run")
    os.utime(path, (time.time() - 1000,) * 2)
    assert not is_held(tmp_path / "run")
    path.write_text("")
    assert not is_held(tmp_path / "run")


def test_the_lock_goes_to_the_file_that_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "run"
    real, calls = fcntl.lockf, []

    def lockf(handle: int, how: int) -> None:
        if not calls:
            lock_file(root).unlink()  # its holder gives it back just now
        calls.append(handle)
        real(handle, how)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with take(root):
        assert lock_file(root).exists()
    assert len(calls) == 2


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make .*: (Not a directory|File exists); choose another folder"):
        take(tmp_path / "file" / "run")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match=r"cannot write .*run.lock: No space left on device; free some space"):
        take(tmp_path / "run")
