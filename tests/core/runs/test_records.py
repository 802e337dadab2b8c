"""The record of a run: what it says at each end, and of a process that is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imginav import UserError
from imginav.processes.stop_request import Interrupted
from imginav.runs.lock import RunLock
from imginav.runs.records import Recorder, code_version, load_record
from imginav_tests.records import DATA


def start(path: Path) -> Recorder:
    return Recorder.start(path, "run", "c" * 64, DATA, 5, None)


def test_a_record_follows_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert load_record(path) is None
    with RunLock(tmp_path, lost=pytest.fail):
        recorder = start(path)
        with recorder.until_finished():
            recorder.write("running", epoch=3)
            during = load_record(path)
    after = load_record(path)
    assert during is not None
    assert after is not None
    assert (during.state, during.epoch, during.epochs, during.data) == ("running", 3, 5, DATA)
    assert (after.state, after.epoch, after.error) == ("finished", 3, "")
    assert after.seconds >= during.seconds >= 0


def test_a_fault_and_an_interruption_are_recorded_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with pytest.raises(UserError), start(path).until_finished():
        raise UserError("the disk is full")
    record = load_record(path)
    assert record is not None
    assert (record.state, record.error) == ("failed", "the disk is full")
    for left in (KeyboardInterrupt(), Interrupted("SIGTERM")):
        with pytest.raises(type(left)), start(path).until_finished():
            raise left
        record = load_record(path)
        assert record is not None
        assert (record.state, record.error) == ("interrupted", str(left) or "KeyboardInterrupt")


def test_another_attempt_counts_the_time_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    start(path)
    first = load_record(path)
    assert first is not None
    told = json.loads(path.read_text()) | {"seconds": 100.0, "epoch": 2, "started": "then"}
    path.write_text(json.dumps(told))
    earlier = load_record(path)
    Recorder.start(path, "run", "c" * 64, DATA, 5, earlier)
    second = load_record(path)
    assert second is not None
    assert (second.epoch, second.started) == (2, "then")
    assert second.seconds >= 100.0


def test_a_run_that_says_it_runs_and_is_locked_by_nobody_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "run" / "run.json"
    with RunLock(path.parent, lost=pytest.fail):
        start(path)
        record = load_record(path)
        assert record is not None
        assert (record.state, record.process) == ("running", os.getpid())
    record = load_record(path)
    assert record is not None
    assert record.state == "cut off"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"state": "finished"}'])
def test_a_damaged_record_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"run.json: cannot be read as the record of a run .*; move its folder away"):
        load_record(path)


def test_the_version_begins_with_that_of_the_distribution() -> None:
    assert code_version().startswith("0.")
