"""The table of metrics of a run, read back."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from imginav_evaluation.csv_files import write_rows
from imginav_reports.metrics_file import read_metrics


def test_metrics_are_floats_without_the_cells_that_a_row_did_not_have(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    rows = [{"epoch": 1, "val_mse": 0.1 + 0.2}, {"epoch": 2, "val_mse": math.inf, "new": -0.0}]
    write_rows(path, rows)
    assert read_metrics(path) == rows
    assert read_metrics(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"", []),
        (b"epoch\n", []),
        (b"epoch,a\n1\n2,b,c\n", [{"epoch": 1.0}, {"epoch": 2.0, "a": math.nan}]),
        (b"epoch\n\xff\n\x003\n", [{"epoch": math.nan}, {"epoch": 3.0}]),
    ],
)
def test_a_damaged_table_of_metrics_is_read_as_far_as_it_goes(
    tmp_path: Path, content: bytes, rows: list[dict[str, float]]
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    assert str(read_metrics(path)) == str(rows)
