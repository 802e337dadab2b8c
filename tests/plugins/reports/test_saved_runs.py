"""Runs as their folders show them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from imginav.errors import UserError
from imginav_reports.saved_runs import SavedRun, differing_values, read_run, run_before, runs_of_phase
from imginav_tests.records import DATA, run_record

SaveRun = Callable[..., SavedRun]

TINY = ("0", "tinies")


def test_the_runs_of_a_phase_come_newest_first_whatever_they_are_called(save_run: SaveRun, tmp_path: Path) -> None:
    save_run("second", date="2026-01-02T00:00:00+00:00")
    save_run("first", date="2026-01-01T00:00:00+00:00")
    save_run("third", date="2026-01-03T00:00:00+00:00")
    save_run("other_phase", "phase.id='9'")
    save_run("other_group", "phase.group='elsewhere'")
    (tmp_path / "experiments" / "cache").mkdir()
    (tmp_path / "experiments" / "notes.txt").write_text("no run")
    broken = tmp_path / "experiments" / "broken"
    broken.mkdir()
    (broken / "manifest.toml").write_text("no = [toml")
    runs = runs_of_phase(tmp_path / "experiments", TINY)
    assert [run.name for run in runs] == ["third", "second", "first"]
    assert runs_of_phase(tmp_path / "nowhere", TINY) == []


def test_a_run_that_is_not_finished_is_one_too(save_run: SaveRun) -> None:
    run = save_run("running", record=run_record(state="failed", error="stopped"))
    assert not run.is_finished
    (run.folder / "evaluation.json").write_text("{}")
    (run.folder / "run.json").unlink()
    bare = read_run(run.folder)
    assert (bare.record, bare.evaluation, bare.date) == (None, None, "")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "no such folder; name a run folder"),
        (lambda folder: folder.mkdir(), "is not a run folder: it holds no manifest.toml; name a run folder"),
        (lambda folder: folder.write_text(""), "no such folder"),
    ],
)
def test_what_is_no_run_folder_is_refused(make: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    make(tmp_path / "run")
    with pytest.raises(UserError, match=said):
        read_run(tmp_path / "run")


def test_the_run_before_is_the_newest_earlier_finished_one_on_the_same_layouts(save_run: SaveRun) -> None:
    save_run("oldest", date="2026-01-01T00:00:00+00:00")
    wanted = save_run("wanted", date="2026-01-02T00:00:00+00:00")
    failed = run_record(state="failed")
    save_run("failed", date="2026-01-03T00:00:00+00:00", record=failed)
    other = attrs.evolve(DATA, layouts=attrs.evolve(DATA.layouts, sha256="d" * 64))
    save_run("others_layouts", date="2026-01-03T00:00:00+00:00", record=run_record(data=other))
    save_run("other_phase", "phase.id='9'", date="2026-01-03T00:00:00+00:00")
    own = save_run("own", date="2026-01-04T00:00:00+00:00")
    save_run("later", date="2026-01-05T00:00:00+00:00")
    before = run_before(own)
    assert before is not None
    assert before.name == wanted.name
    assert run_before(read_run(own.folder.parent / "oldest")) is None


def test_the_values_in_which_runs_differ_are_those_that_are_trained_with(save_run: SaveRun) -> None:
    one = save_run("one", "train.epochs=2", "encoder.variational=false")
    other = save_run("other", "train.epochs=5", "encoder.variational=true", "callbacks.metrics_csv={}")
    assert differing_values([one, other]) == {
        "encoder.variational": [False, True],
        "train.epochs": [2, 5],
        "callbacks.metrics_csv.type": [None, "metrics_csv"],
    }
    assert differing_values([one]) == {}
    assert differing_values([]) == {}
    # A whole number, a fraction and a truth value that Python holds for equal are not the same in TOML.
    assert differing_values([attrs.evolve(one, values={"a": 1}), attrs.evolve(one, values={"a": True})])
