"""CSV files: what is written is read back, and damage is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from imginav import UserError
from imginav_evaluation.csv_files import read_rows, write_rows


def test_rows_are_read_back_with_columns_in_the_order_of_their_first_appearance(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_rows(path, [{"name": "Straße, 1"}, {"type": "room", "name": ""}], ("layout",))
    assert path.read_bytes() == b'layout,name,type\n,"Stra\xc3\x9fe, 1",\n,,room\n'
    assert read_rows(path) == [
        {"layout": "", "name": "Straße, 1", "type": ""},
        {"layout": "", "name": "", "type": "room"},
    ]


def test_what_cannot_be_read_is_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(.*Is a directory.*\); embed again"):
        read_rows(tmp_path, "embed again")
    path = tmp_path / "a.csv"
    path.write_text(f"epoch\n{'1' * 200_000}\n")
    with pytest.raises(UserError, match=r"a.csv: cannot be read \(field larger than field limit .*\); restore it"):
        read_rows(path)
