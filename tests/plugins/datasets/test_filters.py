"""Which rows of a layout list are taken."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imginav import UserError
from imginav_datasets.filters import Value, read_filters

COLUMNS = ["layout_path", "is_empty", "room_count", "style", "odd__name", "odd__name__ge"]


def keeps(filters: Mapping[str, Value], **cells: str) -> bool:
    conditions = read_filters(filters, list(cells))
    return all(condition.keeps(cells, "line 2 of layouts.csv") for condition in conditions)


@pytest.mark.parametrize("cell", ["false", "False", "FALSE", "0", "no", "f", "n", "0.0", " false "])
def test_false_is_read_however_it_is_written(cell: str) -> None:
    assert keeps({"is_empty": False}, is_empty=cell)
    assert not keeps({"is_empty": True}, is_empty=cell)


@pytest.mark.parametrize("cell", ["true", "True", "TRUE", "1", "yes", "t", "y", "1.0"])
def test_true_is_read_however_it_is_written(cell: str) -> None:
    assert keeps({"is_empty": True}, is_empty=cell)
    assert keeps({"is_empty__ne": False}, is_empty=cell)


@given(st.integers(-99, 99), st.integers(-99, 99), st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]))
def test_numbers_are_compared_as_numbers(cell: int, value: int, name: str) -> None:
    expected = getattr(operator, name)(cell, value)
    assert keeps({f"room_count__{name}": value}, room_count=str(cell)) == expected
    assert keeps({f"room_count__{name}": float(value)}, room_count=f"{cell}.0") == expected


def test_text_is_compared_as_text() -> None:
    assert keeps({"style": "modern"}, style=" modern ")
    assert not keeps({"style": "modern"}, style="Modern")
    assert keeps({"room_count__gt": "10"}, room_count="9")
    assert keeps({"style": "10"}, style="10")
    assert not keeps({"style": "10"}, style="10.0")


def test_all_conditions_have_to_hold() -> None:
    both: dict[str, Value] = {"room_count__ge": 2, "room_count__lt": 4}
    assert [keeps(both, room_count=str(count)) for count in (1, 2, 3, 4)] == [False, True, True, False]
    assert keeps({}, room_count="1")


def test_a_column_may_have_the_sign_of_an_operator_in_its_name() -> None:
    assert keeps({"odd__name": 1}, odd__name="1")
    assert keeps({"odd__name__ge": 1}, odd__name="2")
    assert not keeps({"odd__name__ge": 1}, odd__name="2", odd__name__ge="3")


def test_a_column_that_is_not_there_is_refused_with_the_nearest_and_all() -> None:
    message = (
        "data.filters.is_emty: the list has no column 'is_emty', did you mean 'is_empty'\\?; its columns are layout"
    )
    with pytest.raises(UserError, match=message):
        read_filters({"is_emty": False}, COLUMNS)
    with pytest.raises(UserError, match=r"data.filters.rooms__ge: the list has no column 'rooms'; its columns are"):
        read_filters({"rooms__ge": 2}, COLUMNS)


def test_a_column_without_a_name_is_not_taken_for_one_that_is_missing() -> None:
    with pytest.raises(UserError, match=r"data.filters.is_emty: the list has no column 'is_emty', did you mean"):
        read_filters({"is_emty": False}, ["", *COLUMNS])  # pandas writes its index so


@pytest.mark.parametrize("name", ["between", "", "GE"])
def test_a_comparison_that_does_not_exist_is_refused_with_those_that_do(name: str) -> None:
    message = f"data.filters.room_count__{name}: no comparison '{name}'; there are eq, ne, lt, le, gt, ge"
    with pytest.raises(UserError, match=message):
        read_filters({f"room_count__{name}": 2}, COLUMNS)


@pytest.mark.parametrize("cell", ["", "many", "1,5", "nan", "NaN"])
def test_a_cell_that_is_no_number_is_refused_with_its_line(cell: str) -> None:
    message = (
        rf"data.filters.room_count__ge = 2 needs a number in column 'room_count', found '{cell}' in "
        "line 2 of layouts.csv; mend the cell, or compare with text in quotes"
    )
    with pytest.raises(UserError, match=message):
        keeps({"room_count__ge": 2}, room_count=cell)


@pytest.mark.parametrize("cell", ["", "2", "maybe"])
def test_a_cell_that_is_neither_true_nor_false_is_refused(cell: str) -> None:
    message = rf"data.filters.is_empty = False needs true or false in column 'is_empty', found '{cell}' in line 2"
    with pytest.raises(UserError, match=message):
        keeps({"is_empty": False}, is_empty=cell)
