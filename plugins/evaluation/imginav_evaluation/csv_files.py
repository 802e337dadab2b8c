"""CSV files with a header: tables of metrics, comparisons, indices."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imginav.errors import UserError
from imginav.files import write_text


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
    """Write a CSV file, whole or not at all; a cell is empty where its row has no value for the column.

    The columns are `columns`, then the other keys of the rows in the order of their first appearance.
    """
    rows = list(rows)
    text = io.StringIO()
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    writer = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_rows(path: Path, remedy: str = "restore it, or move it away") -> list[dict[str, str]]:
    """Return the rows of a CSV file as text by column; raises UserError where it cannot be read.

    Bytes that are not UTF-8 are replaced and NUL bytes left out; cells beyond the header are dropped.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            reader = csv.DictReader(line.replace("\0", "") for line in stream)
            return [{name: cell or "" for name, cell in row.items() if isinstance(name, str)} for row in reader]
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); {remedy}") from error
