"""The runs of an experiments' folder, read from the files that they leave: manifest, record and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import field, frozen

from imginav.errors import UserError
from imginav.manifest.config_layers import leaves
from imginav.manifest.reading import parse_toml, read_text
from imginav.manifest.resolution import RESOLVED, Resolution, resolution_of
from imginav.manifest.resolved import LINEAGE
from imginav.manifest.structuring import StructuringError
from imginav.runs.evaluation_result import EvaluationResult, load_evaluation
from imginav.runs.records import RunRecord, load_record
from imginav.runs.run_folder import EVALUATION, MANIFEST, RECORD

REMEDY = f"name a run folder, which holds {MANIFEST} and {RECORD}, such as outputs/phase1_5_AE_final"

NOT_WHAT_IS_TRAINED = ("phase.experiment", "phase.group", "phase.title", "output.", "cluster.", f"{LINEAGE}.")
"""Beginnings of dotted keys that only say what a run is called and where its files and jobs are."""


@frozen(kw_only=True)
class SavedRun:
    """A run as its folder shows it."""

    folder: Path
    values: dict[str, Any] = field(factory=dict)  # of its resolved manifest, by dotted key
    resolution: Resolution | None = None  # source and scale of the manifest, and the origin of each value
    record: RunRecord | None = None
    evaluation: EvaluationResult | None = None

    @property
    def name(self) -> str:
        """The name of its folder: that of the experiment, with a number where a later run has moved it aside."""
        return self.folder.name

    @property
    def phase(self) -> tuple[str, str]:
        """The phase's number, and the group that names the folder which its experiments share."""
        return str(self.values.get("phase.id", "")), str(self.values.get("phase.group", ""))

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to its end and evaluated."""
        return self.record is not None and self.record.state == "finished" and self.evaluation is not None

    @property
    def date(self) -> str:
        """When it was evaluated, or gave its last sign of life; UTC, ISO 8601."""
        of_evaluation = self.evaluation.evaluated if self.evaluation else ""
        return of_evaluation or (self.record.updated if self.record else "")

    def same_data(self, other: SavedRun) -> bool:
        """Whether both were trained and validated on the same layouts, so that their metrics can be compared."""
        return self.record is not None and other.record is not None and self.record.data.same(other.record.data)


def read_run(folder: Path) -> SavedRun:
    """Return the run of a folder; raises UserError where the folder holds none, or its manifest cannot be read.

    A record or an evaluation that is missing, damaged or of another version is None.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {REMEDY}")
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder}: is not a run folder: it holds no {MANIFEST}; {REMEDY}")
    text = read_text(folder / MANIFEST, REMEDY)
    tables = parse_toml(text, str(folder / MANIFEST))
    resolution = None
    with suppress(StructuringError, ValueError):
        resolution = resolution_of(text, tables)
    record = evaluation = None
    with suppress(UserError):
        record = load_record(folder / RECORD)
    with suppress(UserError):
        evaluation = load_evaluation(folder / EVALUATION)
    return SavedRun(
        folder=folder,
        values={".".join(keys): value for keys, value in leaves(tables) if keys[0] != RESOLVED and value != {}},
        resolution=resolution,
        record=record,
        evaluation=evaluation,
    )


def run_if_any(folder: Path) -> SavedRun | None:
    """Return the run of a folder; None where it holds none, as the folder of `imginav evaluate` does."""
    with suppress(UserError):
        return read_run(folder)
    return None


def runs_in(experiments: Path) -> Iterator[SavedRun]:
    """Yield the runs of an experiments' folder in the order of their names; what is no readable run is left out."""
    if not experiments.is_dir():
        return
    for folder in sorted(experiments.iterdir()):
        if run := run_if_any(folder):
            yield run


def runs_of_phase(experiments: Path, phase: tuple[str, str]) -> list[SavedRun]:
    """Return all runs of a phase, the newest first; `phase` is its number and its group."""
    found = [run for run in runs_in(experiments) if run.phase == phase]
    return sorted(found, key=lambda run: (run.date, run.name), reverse=True)


def run_before(run: SavedRun) -> SavedRun | None:
    """Return the newest earlier run of the same phase that is finished and was trained on the same layouts."""
    if run.record is None:
        return None
    earlier = (
        other
        for other in runs_of_phase(run.folder.absolute().parent, run.phase)
        if other.name != run.folder.absolute().name and other.is_finished and other.same_data(run)
    )
    return next((other for other in earlier if not run.date or other.date <= run.date), None)


def differing_values(runs: Sequence[SavedRun]) -> dict[str, list[Any]]:
    """Return the values that are not the same in all runs, by dotted key: one for each run, None where it has none.

    Names and places are left out.
    """
    keys = dict.fromkeys(key for run in runs for key in run.values if not key.startswith(NOT_WHAT_IS_TRAINED))
    found = {key: [run.values.get(key) for run in runs] for key in keys}
    return {key: values for key, values in found.items() if any(not _equal(values[0], value) for value in values[1:])}


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of TOML are the same, in type as well: 1 and true are not."""
    return type(one) is type(other) and bool(one == other)
