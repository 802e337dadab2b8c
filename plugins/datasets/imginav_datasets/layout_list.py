"""The CSV file that lists layouts: its rows as they stand there."""

from __future__ import annotations

import csv
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from attrs import frozen

from imginav import UserError
from imginav.plugin import did_you_mean, in_one_line

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
"""What may stand between the cells, the usual one first, and what it is called."""

UTF_16_STARTS = (b"\xff\xfe", b"\xfe\xff")

NO_VALUE = {"", "nan", "none", "null", "na", "n/a", "<na>", "nat"}
"""How programs write a cell that has no value, in small letters."""


@frozen
class Line:
    """A row of the list."""

    number: int  # the line of the file in which it begins; the header is line 1
    cells: dict[str, str]  # by column, without the spaces around them
    fault: str  # what is wrong with the row as such, in a few words; empty: nothing


def value_of(cell: str) -> str:
    """Return what a cell says, or nothing where it has no value."""
    return "" if cell.lower() in NO_VALUE else cell


@contextmanager
def read_list(path: Path, path_column: str) -> Iterator[tuple[list[str], Iterator[Line]]]:
    """Give the columns of a list and its rows, one by one: of a million, all cells at once would take half a gigabyte.

    The cells may stand apart by commas, semicolons, tabs or bars: by whichever makes the header have the column.
    Raises UserError where it is no list or has no such column.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe would be waited for
            raise UserError(f"data.manifest = {str(path)!r}: is no file but a device, a pipe or a socket; name a file")
        with path.open("rb") as start:
            encoding = "utf-16" if start.read(2) in UTF_16_STARTS else "utf-8-sig"
        with path.open(newline="", encoding=encoding) as stream:
            separator, columns = _header(stream, path, path_column)
            yield columns, _rows(stream, separator, columns)
    except FileNotFoundError:
        raise UserError(
            f"data.manifest = {str(path)!r}: no such file; name the CSV file that lists the layouts"
        ) from None
    except OSError as error:
        raise UserError(f"data.manifest = {str(path)!r}: cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error) as error:  # the first for bytes that are no text
        raise UserError(
            f"data.manifest = {str(path)!r}: is no CSV file in UTF-8: {error}; save the list as one"
        ) from None


def refuse_doubled(path: Path, columns: Sequence[str], used: Sequence[str]) -> None:
    """Raise UserError where a column that is used is there twice, so that nobody can tell which is meant."""
    for column in used:
        if columns.count(column) > 1:
            raise UserError(
                f"{path}: has the column {column!r} {columns.count(column)} times; rename or remove all but one"
            )


def _header(stream: TextIO, path: Path, path_column: str) -> tuple[str, list[str]]:
    """Return the separator and the columns, by the separator that makes the header have the column of paths."""
    headers: dict[str, list[str]] = {}
    for separator in SEPARATORS:
        stream.seek(0)
        headers[separator] = next((cells for _, cells in _records(stream, separator, strict=False)), [])
    if any("\0" in cell for cell in headers[","]):
        raise csv.Error("its header holds NUL bytes")
    fitting = {separator: cells for separator, cells in headers.items() if path_column in cells}
    if len({tuple(cells) for cells in fitting.values()}) > 1:
        raise UserError(
            f"{path}: has the column {path_column!r} with {' and with '.join(SEPARATORS[s] for s in fitting)} between "
            "cells, so that nobody can tell which it is; rename columns that hold the other"
        )
    if fitting:
        return next(iter(fitting.items()))
    columns = max(headers.values(), key=len)
    raise UserError(
        f"{path}: has no column {path_column!r}{did_you_mean(path_column, columns)}; its columns are "
        f"{', '.join(map(in_one_line, columns)) or 'none'}; name the one with the image files as data.path_column"
    )


def _rows(stream: TextIO, separator: str, columns: Sequence[str]) -> Iterator[Line]:
    stream.seek(0)
    records = _records(stream, separator, strict=True)
    next(records)
    for number, cells in records:
        fault = ""
        # Cells without a value behind the last column are what spreadsheets leave.
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            fault = f"with {len(cells)} cells under {len(columns)} columns"
        elif any("\0" in cell for cell in cells):
            fault = "with a NUL byte"
        yield Line(number, dict(zip(columns, cells, strict=False)), fault)


def _records(stream: TextIO, separator: str, *, strict: bool) -> Iterator[tuple[int, list[str]]]:
    """Return the lines in which records begin, and their cells; what has no cell with anything in it is none."""
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=True, strict=strict)
    before = 0
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise csv.Error(f"line {before + 1}: {error}") from None
        if record is None:
            return
        cells = [cell.strip() for cell in record]
        if any(cells):
            yield before + 1, cells
        before = reader.line_num
