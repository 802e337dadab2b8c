"""What two runs differ in: their values, their layouts, and the figures that they came to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from attrs import frozen

from imginav.errors import UserError, did_you_mean
from imginav.formatting import apart, format_duration
from imginav.terminal import print_table
from imginav_reports.saved_runs import SavedRun, differing_values, read_run, runs_in
from imginav_reports.varied_values import shown_value

NOTHING = "-"
"""A value that a run does not have."""


@frozen(kw_only=True)
class Figure:
    """A metric of both runs."""

    name: str
    first: float
    second: float
    more_is_better: bool | None  # None where neither direction is better, or it is not known

    @property
    def better(self) -> str:
        """Which of the two is better, `first` or `second`; empty where they are level or that has no meaning."""
        if self.more_is_better is None or self.first == self.second:
            return ""
        return "second" if (self.second > self.first) is self.more_is_better else "first"

    @property
    def ratio(self) -> str:
        """The second as a multiple of the first, for people."""
        if self.first <= 0 or self.second <= 0:
            return ""
        return f"× {self.second / self.first:.3g}"


@frozen(kw_only=True)
class RunDifference:
    """Two runs beside each other."""

    first: SavedRun
    second: SavedRun
    values: dict[str, list[Any]]  # those that differ, by dotted key, of the first and of the second
    figures: tuple[Figure, ...]  # those that both have and that differ

    @property
    def same_data(self) -> bool:
        """Whether the figures can be compared."""
        return self.first.same_data(self.second)

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "runs": [str(run.folder) for run in (self.first, self.second)],
            "same_data": self.same_data,
            "values": self.values,
            "metrics": {f.name: {"values": [f.first, f.second], "better": f.better} for f in self.figures},
            "seconds": [run.record.seconds if run.record else None for run in (self.first, self.second)],
        }


def difference(first: str, second: str, experiments: Path) -> RunDifference:
    """Compare two runs, each given by its folder or by its name in the experiments' folder.

    Raises UserError for what is no run.
    """
    one, other = _run(first, experiments), _run(second, experiments)
    return RunDifference(
        first=one, second=other, values=differing_values([one, other]), figures=tuple(_figures(one, other))
    )


def show(found: RunDifference) -> None:
    """Print a difference for people."""
    runs = (found.first, found.second)
    names = [run.name for run in runs]
    rows = [
        [key, *(NOTHING if v is None else shown_value({key: v}, key) for v in values)]
        for key, values in found.values.items()
    ]
    if rows:
        print_table("Values", ["key", *names], rows, [False] * len(rows))
    else:
        print(f"{' and '.join(names)} have the same values")
    if not found.same_data:
        shown = [run.record.data.layouts.description if run.record else "unknown layouts" for run in runs]
        print(f"trained on other layouts or another split ({'; '.join(shown)}): their metrics cannot be compared")
    for run in (run for run in runs if run.evaluation is None):
        print(f"{run.name} has no evaluation yet{f' ({run.record.state})' if run.record else ''}")
    if found.figures:
        rows = []
        for figure in found.figures:
            marks = ["  better" if found.same_data and figure.better == side else "" for side in ("first", "second")]
            texts = [f"{text}{mark}" for text, mark in zip(apart(figure.first, figure.second), marks, strict=True)]
            rows.append([figure.name, *texts, figure.ratio])
        print_table("Metrics", ["metric", *names, ""], rows, [False] * len(rows))
    times = [format_duration(run.record.seconds) if run.record else NOTHING for run in runs]
    print(f"trained for {' and '.join(times)}")


def _run(given: str, experiments: Path) -> SavedRun:
    for folder in (Path(given), experiments / given):
        if folder.is_dir():
            return read_run(folder)
    names = [run.name for run in runs_in(experiments)]
    there = f"; the runs in {experiments} are {', '.join(names)}" if names else f"; there is no run in {experiments}"
    raise UserError(f"{given}: is neither a run folder nor the name of a run{did_you_mean(given, names)}{there}")


def _figures(first: SavedRun, second: SavedRun) -> list[Figure]:
    if first.evaluation is None or second.evaluation is None:
        return []
    one, other = first.evaluation, second.evaluation
    more = {*one.reconstruction.more_is_better, *(n for n, probed in one.probes.items() if probed.more_is_better)}
    less = {*one.reconstruction.definitions, *one.probes} - more
    found = []
    for name, value in one.metrics.items():
        theirs = other.metrics.get(name, math.nan)
        if math.isfinite(value) and math.isfinite(theirs) and value != theirs:
            known = name in more or name in less or name.startswith("val_loss")
            found.append(Figure(name=name, first=value, second=theirs, more_is_better=name in more if known else None))
    return found
