"""Rows of values, which a notebook shows as a table."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from imginav.errors import UserError, did_you_mean

SHOWN_ROWS = 20
"""Rows that a notebook shows; of more, the first and the last ones."""


class Table(Sequence[dict[str, Any]]):
    """Rows by their number, columns by their name: `table[-1]["val_mse"]`, `table["val_mse"]`.

    A row is a dict; a value that is not there is missing in it, and None in a column.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = [dict(row) for row in rows]

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, key: slice) -> Table: ...

    @overload
    def __getitem__(self, key: str) -> list[Any]: ...

    def __getitem__(self, key: int | slice | str) -> dict[str, Any] | Table | list[Any]:
        """Return a row by its number, some rows as a table, or a column by its name; raises KeyError for another."""
        if isinstance(key, slice):
            return Table(self._rows[key])
        if not isinstance(key, str):
            return self._rows[key]
        if key not in self.columns:
            raise KeyError(f"no column {key!r}{did_you_mean(key, self.columns)}")
        return [row.get(key) for row in self._rows]

    def to_pandas(self) -> Any:
        """Return the table as a pandas.DataFrame; raises UserError if pandas is not installed."""
        try:
            import pandas
        except ImportError as error:
            raise UserError("to_pandas() needs pandas; install it: pip install pandas") from error
        return pandas.DataFrame(self._rows, columns=self.columns)

    def __repr__(self) -> str:
        return f"<table of {len(self)} rows: {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        """Return the table as HTML, for notebooks."""
        names = self.columns
        rows = self._rows
        if len(rows) > SHOWN_ROWS:
            half = SHOWN_ROWS // 2
            rows = [*rows[:half], dict.fromkeys(names, "…"), *rows[-half:]]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(f"<tr>{''.join(f'<td>{_cell(row.get(name))}</td>' for name in names)}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return html.escape(f"{value:.5g}" if isinstance(value, float) else str(value))
