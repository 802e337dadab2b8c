"""Tensors that a CSV file lists, as the original reads them."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BOOLEANS = {"true": True, "false": False}


class ManifestDataset:
    """Rows that `filters` leave; `outputs` says by which names the tensors of which columns are given."""

    def __init__(self, manifest: str, outputs: Mapping[str, str], filters: Mapping[str, list[Any]]) -> None:
        with Path(manifest).open(newline="") as stream:
            rows = [{name: BOOLEANS.get(cell, cell) for name, cell in row.items()} for row in csv.DictReader(stream)]
        self._folder, self._outputs = Path(manifest).parent, outputs
        self.rows = [row for row in rows if all(row[name] in allowed for name, allowed in filters.items())]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        return {name: self._load(self.rows[index][column]) for name, column in self._outputs.items()}

    def _load(self, cell: Any) -> Tensor | str:
        if str(cell) in ("room", "scene"):
            return str(cell)
        path = Path(cell)
        if not path.is_absolute():
            warnings.warn(f"relative path in the list: {path}", stacklevel=2)
        loaded: Tensor = torch.load(self._folder / path)
        return loaded
