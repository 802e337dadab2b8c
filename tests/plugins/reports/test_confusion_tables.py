"""Confusion matrices as tables of a page."""

from __future__ import annotations

from imginav.runs.evaluation_result import EvaluationResult, Reconstruction
from imginav_reports.confusion_tables import MOST_CLASSES, confusion_tables
from imginav_tests import evaluations

Counts = dict[str, dict[str, int]]


def evaluation(**confusion: Counts) -> EvaluationResult:
    return evaluations.evaluation(reconstruction=Reconstruction(confusion=confusion))


def test_each_row_has_the_shares_of_a_true_class() -> None:
    counts = {"wall": {"wall": 3, "bed": 1}, "bed": {"bed": 5000, "invented": 1}}
    (table,) = confusion_tables(evaluation(palette=counts))
    assert (table.metrics, table.classes) == ("palette", ["wall", "bed", "invented"])
    found = {true: (count, [share.text for share in shares]) for true, count, shares in table.rows}
    assert found == {"wall": (4, ["75.0 %", "25.0 %", ""]), "bed": (5001, ["", "100.0 %", "< 0.1 %"])}
    assert [share.right for _, _, shares in table.rows for share in shares] == [True, False, False, False, True, False]


def test_what_two_metrics_have_counted_alike_is_one_table() -> None:
    same, other = {"wall": {"wall": 3}}, {"room": {"scene": 1}}
    tables = confusion_tables(evaluation(palette=same, segmentation=dict(same), classification=other))
    assert [table.metrics for table in tables] == ["palette, segmentation", "classification"]


def test_of_many_classes_the_most_frequent_are_shown() -> None:
    counts = {f"class {n}": {f"class {n}": n} for n in range(1, MOST_CLASSES + 6)}
    (table,) = confusion_tables(evaluation(palette=counts))
    assert table.classes == [f"class {n}" for n in range(6, MOST_CLASSES + 6)]
    assert table.classes_left_out == 5


def test_where_nothing_was_counted_there_is_no_table() -> None:
    assert confusion_tables(evaluation()) == []
    assert confusion_tables(evaluation(palette={})) == []
