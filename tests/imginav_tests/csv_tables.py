"""The CSV files that runs leave, as tests compare them."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

TIMES = ("seconds", "images_per_second")
"""The columns of a run's metrics that differ each time."""


def read_table(path: Path, without: Collection[str] = ()) -> list[dict[str, str]]:
    """Return the rows as text by column, but for some columns; unlike imginav's own reader, mend nothing in them."""
    with path.open(newline="") as stream:
        return [{name: cell for name, cell in row.items() if name not in without} for row in csv.DictReader(stream)]
