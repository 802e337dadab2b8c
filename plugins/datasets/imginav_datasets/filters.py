"""Conditions on the columns of a layout list: `is_empty = false`, `room_count__ge = 2`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from imginav import UserError
from imginav.plugin import did_you_mean

Value = bool | int | float | str
"""What a cell is compared with; its type says how the cell is read."""

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}

TRUE = {"true", "1", "yes", "t", "y", "1.0"}
FALSE = {"false", "0", "no", "f", "n", "0.0"}


@frozen
class Filter:
    """One condition: a column, a comparison, and a value."""

    key: str  # as it stands in the manifest
    column: str
    compare: Callable[[Any, Any], bool]
    value: Value

    def keeps(self, row: Mapping[str, str], where: str) -> bool:
        """Whether a row fulfils the condition; raises UserError for a cell that cannot be compared."""
        cell = row[self.column].strip()
        try:
            return self.compare(_read(cell, self.value), self.value)
        except ValueError:
            raise UserError(
                f"data.filters.{self.key} = {self.value!r} needs {_wanted(self.value)} in column {self.column!r}, "
                f"found {cell!r} in {where}; mend the cell, or compare with text in quotes"
            ) from None


def read_filters(filters: Mapping[str, Value], columns: Sequence[str]) -> list[Filter]:
    """Return the conditions of `column__operator = value` entries; without an operator, a cell must equal the value.

    Raises UserError for a column that is not there and for an operator that does not exist.
    """
    conditions = []
    for key, value in filters.items():
        column, operated, name = key.rpartition("__")
        if key in columns or not operated:
            column, name = key, "eq"
        if column not in columns:
            raise UserError(
                f"data.filters.{key}: the list has no column {column!r}{did_you_mean(column, columns)}; "
                f"its columns are {', '.join(columns)}"
            )
        if name not in OPERATORS:
            raise UserError(f"data.filters.{key}: no comparison {name!r}; there are {', '.join(OPERATORS)}")
        conditions.append(Filter(key, column, OPERATORS[name], value))
    return conditions


def _read(cell: str, like: Value) -> Value:
    if isinstance(like, bool):
        if cell.lower() not in TRUE | FALSE:
            raise ValueError(cell)
        return cell.lower() in TRUE
    if isinstance(like, str):
        return cell
    number = float(cell)
    if math.isnan(number):  # every comparison with it would be false, without a word
        raise ValueError(cell)
    return number


def _wanted(value: Value) -> str:
    return "true or false" if isinstance(value, bool) else "a number"
