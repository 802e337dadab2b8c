"""All runs of a phase that lie in the experiments' folder, as rows of a table on the phase's page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from attrs import frozen

from imginav.formatting import format_duration
from imginav.manifest.resolved import ResolvedPhase
from imginav.runs.run_folder import EVALUATION, REPORT
from imginav_reports.html import as_toml, figure, moment
from imginav_reports.saved_runs import SavedRun, differing_values, runs_of_phase
from imginav_reports.side_by_side import METRICS, finite

VALUES_SHOWN = 8
"""Upper bound on the values of a run that are listed because other runs have others."""

VALUE_CHARACTERS = 80


@frozen(kw_only=True)
class RunRow:
    """A run in the table."""

    name: str
    report: str  # the URL of its page, relative to the phase's; empty if it has none
    date: str
    state: str
    other_data: bool  # whether its layouts or its split are not those of the newest finished run
    layouts: str
    epochs: str
    metrics: list[str]  # in the order of `RunTable.metrics`
    latent: str
    parameters: str
    time: str
    values: list[tuple[str, str]]  # what it has where the runs differ: dotted key, value
    values_left_out: int


@frozen(kw_only=True)
class RunTable:
    """All runs of a phase, the newest first."""

    metrics: list[str]  # headings of the metrics that some run has
    rows: list[RunRow]

    @property
    def has_other_data(self) -> bool:
        """Whether some metrics cannot be compared, because the layouts are not the same."""
        return any(row.other_data for row in self.rows)


def run_table(phase: ResolvedPhase) -> RunTable:
    """Return all runs of a phase that lie in its experiments' folder."""
    runs = runs_of_phase(phase.manifest.output.experiments, (phase.id, phase.manifest.phase.group))
    measured = [run.evaluation.metrics for run in runs if run.evaluation]
    metrics = [(name, title) for name, title, _ in METRICS if any(name in of_run for of_run in measured)]
    differing = differing_values(runs)
    newest = next((run for run in runs if run.is_finished), None)
    return RunTable(
        metrics=[title for _, title in metrics],
        rows=[
            _row(run, phase.shared, [name for name, _ in metrics], newest, _own(differing, place))
            for place, run in enumerate(runs)
        ],
    )


def page_is_older(page: Path, phase: ResolvedPhase) -> bool:
    """Whether a run of the phase was evaluated after its page was written."""
    written = page.stat().st_mtime
    runs = runs_of_phase(phase.manifest.output.experiments, (phase.id, phase.manifest.phase.group))
    return any((run.folder / EVALUATION).stat().st_mtime > written for run in runs if run.is_finished)


def _own(differing: dict[str, list[object]], place: int) -> list[tuple[str, str]]:
    shown = [(key, as_toml(values[place])) for key, values in differing.items() if values[place] is not None]
    return [(key, text if len(text) <= VALUE_CHARACTERS else f"{text[: VALUE_CHARACTERS - 1]}…") for key, text in shown]


def _row(
    run: SavedRun, shared: Path, metrics: Sequence[str], newest: SavedRun | None, values: list[tuple[str, str]]
) -> RunRow:
    evaluation, record = run.evaluation, run.record
    known = evaluation.metrics if evaluation else {}
    size = evaluation.encoder_parameters + evaluation.decoder_parameters if evaluation else None
    return RunRow(
        name=run.name,
        report=_report(run, shared),
        date=moment(run.date),
        state=(record.state if record else "unreadable") + (", trial scale" if _is_trial(run) else ""),
        other_data=bool(newest and run.is_finished and not run.same_data(newest)),
        layouts=record.data.layouts.description if record else "",
        epochs=f"{evaluation.weights_epoch} of {evaluation.epochs}" if evaluation else "",
        metrics=[figure(finite(known.get(name)), 4) if evaluation else "" for name in metrics],
        latent="×".join(map(str, evaluation.latent)) if evaluation else "",
        parameters=f"{size:,}" if size is not None else "",
        time=format_duration(record.seconds) if record else "",
        values=values[:VALUES_SHOWN],
        values_left_out=max(0, len(values) - VALUES_SHOWN),
    )


def _is_trial(run: SavedRun) -> bool:
    return run.resolution is not None and run.resolution.scale == "trial"


def _report(run: SavedRun, shared: Path) -> str:
    """Return the URL of a run's page: its copy in the phase's folder, which may be moved as a whole, or its own."""
    copy = shared / f"{run.name}_{REPORT}"
    if copy.is_file():
        return quote(copy.name)
    own = run.folder / REPORT
    return quote(Path(os.path.relpath(own.absolute(), shared.absolute())).as_posix()) if own.is_file() else ""
