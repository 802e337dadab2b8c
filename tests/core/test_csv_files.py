"""CSV files: what is written is read back, and damage is one sentence."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from imginav import UserError
from imginav.csv_files import read_metrics, read_rows, write_rows


def test_rows_are_read_back_with_columns_in_the_order_of_their_first_appearance(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_rows(path, [{"name": "Straße, 1"}, {"type": "room", "name": ""}], ("layout",))
    assert path.read_bytes() == b'layout,name,type\n,"Stra\xc3\x9fe, 1",\n,,room\n'
    assert read_rows(path) == [
        {"layout": "", "name": "Straße, 1", "type": ""},
        {"layout": "", "name": "", "type": "room"},
    ]


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


def test_what_cannot_be_read_is_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(.*Is a directory.*\); embed again"):
        read_rows(tmp_path, "embed again")
    path = tmp_path / "a.csv"
    path.write_text(f"epoch\n{'1' * 200_000}\n")
    with pytest.raises(UserError, match=r"a.csv: cannot be read \(field larger than field limit .*\); restore it"):
        read_metrics(path)
