"""The losses, the gradient norm and the learning rate of the steps as a CSV file of bounded length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from attrs import field, frozen
from torch import Tensor

from imginav import Callback, hookimpl
from imginav.plugin import RunFiles, TrainingRun, from_to, write_rows

LOSS, GRADIENT_NORM, LEARNING_RATE = "loss", "gradient_norm", "learning_rate"

READ_EVERY = 50
"""Steps whose values are read from the device together: reading makes a GPU wait."""

ROW_BYTES = 20
"""Upper bound on a number in the file, and of one in the state."""

COLUMNS_EXPECTED = 24
"""Columns of a run with a few loss terms, to estimate the size of the file."""


@frozen(kw_only=True)
class StepLog(Callback):
    """Write losses, gradient norm and learning rate step by step; a long run has rows of several steps each."""

    observer: ClassVar[bool] = True

    rows: int = field(default=2000, validator=from_to(2, 1_000_000))  # at most; when full, pairs of rows become one

    def build(self) -> object:
        return StepRows(self.rows)

    def disk_bytes(self, weights: int, training: int, epochs: int) -> int:
        return self.rows * COLUMNS_EXPECTED * ROW_BYTES


class Rows:
    """Rows that each stand for the same number of consecutive steps, and the row that is not complete yet.

    What they hold depends on the steps alone, not on when they were read or saved.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.stride = 1  # steps of a complete row
        self.names: list[str] = []  # of the values
        # Of each row: its last step, the epoch of that, and how many steps; sums, minima and maxima of the values.
        self.places: list[list[int]] = []
        self.sums: list[list[float]] = []
        self.minima: list[list[float]] = []
        self.maxima: list[list[float]] = []

    def add(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Take in one step."""
        for name in values:
            if name not in self.names:
                self._add_name(name)
        own = [values.get(name, math.nan) for name in self.names]
        if len(self.places) == self._most and self.places[-1][2] == self.stride:
            self._merge_pairs()
        is_partial = self.places and self.places[-1][2] < self.stride
        (self._extend_last if is_partial else self._append)([step, epoch, 1], own, own, own)

    def __iter__(self) -> Iterator[dict[str, float]]:
        """Each row as the file has it: the mean over its steps, the least and the largest of each value."""
        for (step, epoch, steps), sums, minima, maxima in zip(
            self.places, self.sums, self.minima, self.maxima, strict=True
        ):
            row: dict[str, float] = {"step": step, "epoch": epoch, "steps": steps}
            for name, total, least, largest in zip(self.names, sums, minima, maxima, strict=True):
                row |= {name: total / steps, f"min_{name}": least, f"max_{name}": largest}
            yield row

    def _append(self, place: list[int], sums: list[float], minima: list[float], maxima: list[float]) -> None:
        self.places.append(list(place))
        self.sums.append(list(sums))
        self.minima.append(list(minima))
        self.maxima.append(list(maxima))

    def _extend_last(self, place: list[int], sums: list[float], minima: list[float], maxima: list[float]) -> None:
        """Merge what belongs to the last row into it."""
        self.places[-1] = [place[0], place[1], self.places[-1][2] + place[2]]
        self.sums[-1] = [one + other for one, other in zip(self.sums[-1], sums, strict=True)]
        self.minima[-1] = [_least(one, other) for one, other in zip(self.minima[-1], minima, strict=True)]
        self.maxima[-1] = [-_least(-one, -other) for one, other in zip(self.maxima[-1], maxima, strict=True)]

    def _merge_pairs(self) -> None:
        """Halve the number of rows: each becomes twice as many steps."""
        rows = list(zip(self.places, self.sums, self.minima, self.maxima, strict=True))
        self.places, self.sums, self.minima, self.maxima = [], [], [], []
        self.stride *= 2
        for number, row in enumerate(rows):
            (self._extend_last if number % 2 else self._append)(*row)

    def _add_name(self, name: str) -> None:
        """Add a value that earlier rows do not have, as a changed manifest may bring one."""
        self.names.append(name)
        for values in (*self.sums, *self.minima, *self.maxima):
            values.append(math.nan)

    def state_dict(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "names": list(self.names),
            "places": torch.tensor(self.places, dtype=torch.int64).reshape(-1, 3),
            "values": torch.tensor([self.sums, self.minima, self.maxima], dtype=torch.float64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.stride, self.names = state["stride"], list(state["names"])
        self.places = state["places"].tolist()
        self.sums, self.minima, self.maxima = state["values"].tolist()


class StepRows:
    """Keeps the values of the last steps on the device, and writes all rows at the end of each epoch.

    Where a run resumes, the file first becomes what the run knows: no step is lost, and none is there twice.
    """

    def __init__(self, most_rows: int) -> None:
        self._rows = Rows(most_rows)
        self._unread: list[tuple[int, int, dict[str, Tensor], float]] = []  # step, epoch, values, learning rate
        self._folder: RunFiles

    @hookimpl
    def run_started(self, folder: RunFiles) -> None:
        self._folder = folder
        if self._rows.places:
            self._write()

    @hookimpl
    def step_finished(self, trainer: TrainingRun, terms: Mapping[str, Tensor]) -> None:
        values = {name if name == LOSS else f"{LOSS}_{name}": term for name, term in terms.items()}
        if trainer.gradient_norm is not None:
            values[GRADIENT_NORM] = trainer.gradient_norm
        self._unread.append((trainer.step, trainer.epoch, values, trainer.learning_rate))
        if len(self._unread) == READ_EVERY:
            self._read()

    @hookimpl
    def epoch_finished(self) -> None:
        self._read()
        self._write()

    @hookimpl
    def training_interrupted(self) -> None:
        self._read()
        self._write()

    def state_dict(self) -> dict[str, Any]:
        self._read()
        return self._rows.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._unread = []
        self._rows.load_state_dict(state)

    def _read(self) -> None:
        """Bring the values of the last steps from the device, all at once."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        scalars = [value.detach().float() for _, _, values, _ in unread for value in values.values()]
        found = iter(torch.stack(scalars).tolist() if scalars else [])
        for step, epoch, values, rate in unread:
            self._rows.add(step, epoch, {name: next(found) for name in values} | {LEARNING_RATE: rate})

    def _write(self) -> None:
        write_rows(self._folder.steps, self._rows)


def _least(one: float, other: float) -> float:
    """Return the smaller of two numbers; NaN where one of them is."""
    return one if math.isnan(one) or one <= other else other
