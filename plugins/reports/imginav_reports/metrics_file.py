"""The metrics CSV of a run: one row for each epoch."""

from __future__ import annotations

import math
from pathlib import Path

from imginav_evaluation.csv_files import read_rows


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the rows of a metrics CSV without empty cells; a cell that is not a number becomes NaN.

    Returns an empty list if the file is missing: the callback that writes it may be disabled.
    """
    if not path.exists():
        return []
    return [{name: _number(cell) for name, cell in row.items() if cell} for row in read_rows(path)]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
