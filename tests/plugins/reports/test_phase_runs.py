"""All runs of a phase on its page."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable

import attrs
import pytest

from imginav.manifest.resolved import ResolvedPhase
from imginav.runs.experiment import run_folder
from imginav.runs.records import load_record
from imginav.study.phases import ConcludedPhase
from imginav.study.selection import data_fingerprints, gather
from imginav_reports import phase_concluded, phase_page
from imginav_reports.phase_runs import VALUES_SHOWN, run_table

Load = Callable[..., ResolvedPhase]


@pytest.fixture
def trained(load_text: Load, finish: Callable[..., None]) -> Callable[..., ResolvedPhase]:
    """Leave a finished run of the phase's one experiment under a name, with settings."""

    def trained(name: str, mse: float, *settings: str) -> ResolvedPhase:
        phase = load_text("", f"phase.experiment={name!r}", *settings)
        finish(phase, data_fingerprints(phase), **{name: mse})
        folder = run_folder(phase.experiments[0])
        folder.manifest.write_text(phase.experiments[0].to_toml())
        (folder.root / "report.html").write_text(name)
        phase.shared.mkdir(parents=True, exist_ok=True)
        return phase

    return trained


def rows(page: str) -> list[list[str]]:
    (table,) = re.findall(r'<table class="runs">(.*?)</table>', page, re.DOTALL)
    found = [
        re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in re.findall("<tr>.*?</tr>", table, re.S)
    ]
    return [[html.unescape(" ".join(re.sub("<[^>]+>", " ", cell).split())) for cell in row] for row in found]


def page_of(phase: ResolvedPhase) -> str:
    phase_page.write(phase, gather(phase), None)
    return (phase.shared / "report.html").read_text(encoding="utf-8")


def test_runs_under_other_names_are_on_the_phases_page(trained: Callable[..., ResolvedPhase]) -> None:
    trained("own", 0.2)
    phase = trained("own2", 0.1, "train.epochs=7")
    page = page_of(phase)
    head, *found = rows(page)
    assert head == ["run", "date", "state", "layouts", "epoch", "MSE", "latent", "parameters", "time", "differs in"]
    assert sorted(row[0] for row in found) == ["own", "own2"]
    by_name = {row[0]: row for row in found}
    assert [by_name[name][5] for name in ("own", "own2")] == ["0.2000", "0.1000"]
    assert [by_name[name][-1] for name in ("own", "own2")] == ["train.epochs = 2", "train.epochs = 7"]
    assert by_name["own"][2:5] == ["finished", "16 layouts", "2 of 2"]
    links = re.findall(r'<th><a href="([^"]+)">', page)
    assert {(phase.shared / link).resolve().read_text() for link in links} == {"own", "own2"}
    assert "No winner is declared yet" not in page  # a single experiment has none to declare


def test_the_only_run_of_a_phase_differs_from_none(trained: Callable[..., ResolvedPhase]) -> None:
    head, row = rows(page_of(trained("own", 0.2)))
    assert head[-1] == "time"
    assert len(row) == len(head)


def test_a_run_on_other_layouts_is_marked(trained: Callable[..., ResolvedPhase]) -> None:
    trained("own", 0.2, "data.count=12")
    table = run_table(trained("own2", 0.1))
    marked = {row.name: row.other_data for row in table.rows}
    assert sum(marked.values()) == 1
    assert table.has_other_data
    assert not run_table(trained("own3", 0.1, "phase.group='g'")).has_other_data


def test_of_many_values_some_are_shown_and_the_others_counted(trained: Callable[..., ResolvedPhase]) -> None:
    trained("own", 0.2)
    changes = [f"callbacks.c{n}={{type='early_stopping'}}" for n in range(VALUES_SHOWN)]
    table = run_table(trained("own2", 0.1, *changes, f"phase.title='{'x' * 500}'"))
    (row,) = [row for row in table.rows if row.name == "own2"]
    assert len(row.values) == VALUES_SHOWN
    assert row.values_left_out > 0


def test_the_page_is_written_anew_where_another_run_of_the_phase_has_finished(
    trained: Callable[..., ResolvedPhase],
) -> None:
    phase = trained("own", 0.2)
    page = phase.shared / "report.html"
    page.write_text("older")
    evaluation = run_folder(phase.experiments[0]).evaluation
    for seconds, rewritten in ((-60, False), (60, True)):
        at = page.stat().st_mtime + seconds
        os.utime(evaluation, (at, at))
        phase_concluded(ConcludedPhase(phase=phase, experiments=gather(phase), winner=None, changed=False))
        assert (page.read_text(encoding="utf-8") != "older") is rewritten


def test_what_a_stranger_has_named_is_text(trained: Callable[..., ResolvedPhase]) -> None:
    trained("own", 0.2, "data.count=12")
    phase = trained("own2", 0.1)
    record_path = run_folder(phase.experiments[0]).record
    record = load_record(record_path)
    assert record is not None
    hostile = "<script>alert(1)</script>"
    layouts = attrs.evolve(record.data.layouts, description=hostile)
    attrs.evolve(record, data=attrs.evolve(record.data, layouts=layouts)).save(record_path)
    page = page_of(phase)
    assert hostile not in page
    assert html.escape(hostile) in page
