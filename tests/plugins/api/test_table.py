"""Tables of rows."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from imginav import UserError
from imginav_api.table import SHOWN_ROWS, Table

TABLE = Table([{"epoch": 1, "loss": 0.123456789}, {"epoch": 2, "note": "<b>"}])


def test_rows_and_columns() -> None:
    assert TABLE.columns == ["epoch", "loss", "note"]
    assert len(TABLE) == 2
    assert list(TABLE) == [TABLE[0], TABLE[1]]
    assert TABLE[-1] == {"epoch": 2, "note": "<b>"}
    assert TABLE["loss"] == [0.123456789, None]
    assert TABLE[1:]["epoch"] == [2]
    with pytest.raises(KeyError, match="no column 'los', did you mean 'loss'"):
        TABLE["los"]


def test_a_notebook_shows_a_table() -> None:
    assert TABLE._repr_html_() == (
        "<table><thead><tr><th>epoch</th><th>loss</th><th>note</th></tr></thead><tbody>"
        "<tr><td>1</td><td>0.12346</td><td></td></tr><tr><td>2</td><td></td><td>&lt;b&gt;</td></tr></tbody></table>"
    )


def test_of_a_long_table_both_ends_are_shown() -> None:
    long = Table([{"epoch": number} for number in range(100)])._repr_html_()
    assert long.count("<tr>") == SHOWN_ROWS + 2  # the heading, and what stands for the others
    assert "<td>9</td></tr><tr><td>…</td></tr><tr><td>90</td>" in long


def test_a_data_frame_is_made_where_pandas_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns)))
    assert TABLE.to_pandas() == (list(TABLE), TABLE.columns)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"to_pandas\(\) needs pandas; install it: pip install pandas"):
        TABLE.to_pandas()
