"""The table of metrics of a run, with a row for each epoch."""

from __future__ import annotations

import math
from pathlib import Path

from imginav.csv_files import read_rows


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the rows of a table of metrics, without the cells that are empty; a cell that is no number is NaN.

    Returns an empty list where there is no such file: the callback that writes it may be switched off.
    """
    if not path.exists():
        return []
    return [{name: _number(cell) for name, cell in row.items() if cell} for row in read_rows(path)]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
