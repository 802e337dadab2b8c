"""Runs as Python sees them: their metrics, evaluation, model and report, read from their folders."""

from __future__ import annotations

import base64
import html
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imginav.errors import UserError
from imginav.manifest.site import SITE_FILE, experiments_folder
from imginav.runs.evaluation_result import EvaluationResult, load_evaluation
from imginav.runs.records import RunRecord, load_record
from imginav.runs.run_folder import EVALUATION, RECORD, REPORT
from imginav_api.page import Page
from imginav_api.table import Table
from imginav_reports.metrics_file import read_metrics
from imginav_reports.run_summary import summary
from imginav_reports.run_weights import is_run, run_folders, run_named

if TYPE_CHECKING:
    from imginav_handoff.pretrained import Pretrained

PICTURES = ("curves.png", "worst.png")
"""Of a run or an evaluation, that a notebook shows."""


class Evaluated:
    """A folder with an evaluation: what was measured, the page, and the pictures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.absolute().name

    @property
    def evaluation(self) -> EvaluationResult:
        """All that was measured of the weights, such as `evaluation.metrics["val_mse"]`.

        Raises UserError if there is none, as of a run that has not finished.
        """
        return load_evaluation(self.folder / EVALUATION)

    @property
    def report(self) -> Page:
        """The page; a notebook shows it in place, and `report.path` is the file."""
        return Page(self.folder / REPORT)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.folder}>"

    def _repr_html_(self) -> str:
        """Return the summary with its pictures, for notebooks."""
        return f"<pre>{html.escape(self._text())}</pre>" + "".join(
            f'<img style="max-width: 100%" alt="{path.stem}" src="data:image/png;base64,'
            f'{base64.b64encode(path.read_bytes()).decode()}">'
            for path in (self.folder / name for name in PICTURES)
            if path.is_file()
        )

    def _text(self) -> str:
        try:
            return summary(self.evaluation, self.folder).strip()
        except UserError:
            return repr(self)


class Run(Evaluated):
    """A run, by the folder that it leaves; its files are read each time, so that a run can be watched as it trains."""

    @property
    def record(self) -> RunRecord:
        """Its state, the last finished epoch and the time it took; raises UserError if it has never begun."""
        record = load_record(self.folder / RECORD)
        if record is None:
            raise UserError(f"{self.folder}: holds no {RECORD}, so the run has never begun; train it")
        return record

    @property
    def state(self) -> str:
        """`running`, `finished`, `failed`, `interrupted` or `cut off` (its process is gone)."""
        return self.record.state

    @property
    def metrics(self) -> Table:
        """The metrics of each epoch, train and validation side by side: `run.metrics["val_mse"]` is a column.

        It is empty before the first epoch has ended.
        """
        files = sorted(self.folder.glob("*_metrics.csv"))
        return Table(read_metrics(files[0]) if files else [])

    @cached_property
    def model(self) -> Pretrained:
        """The trained autoencoder on the CPU, as `imginav.load` returns it; `.to("cuda")` moves it."""
        from imginav_handoff.pretrained import load

        return load(self.folder)

    def _text(self) -> str:
        text = super()._text()
        if not text.startswith("<"):
            return text
        record = load_record(self.folder / RECORD)
        where = f": {record.state}, epoch {record.epoch} of {record.epochs}" if record else ""
        return f"{self.name}{where}"


def open_run(run: str | Path, *, site: str | Path | None = None) -> Run:
    """Return a run by its name in the experiments folder of the site file, or by its folder.

    Raises UserError if there is no such run.
    """
    return Run(run_named(run, Path(site) if site is not None else None))


def list_runs(*, site: str | Path | None = None) -> Table:
    """Return all runs in the experiments folder of the site file, a row each, with their state and main metrics.

    Those that a later run has moved aside are left out; a run without an evaluation has no metrics.
    """
    return Table([_row(folder) for folder in run_folders(experiments_folder(Path(site or SITE_FILE)))])


def _row(folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"run": folder.name}
    try:
        if record := load_record(folder / RECORD):
            row |= {"state": record.state, "epoch": record.epoch, "epochs": record.epochs}
        evaluation = load_evaluation(folder / EVALUATION)
    except UserError:
        return row
    row |= {name: evaluation.metrics[name] for name in ("val_mse", "val_psnr_db") if name in evaluation.metrics}
    return {**row, "latent": "×".join(map(str, evaluation.latent)), "evaluated": evaluation.evaluated}


def folder_or_weights(given: str | Path | Evaluated) -> str | Path:
    """Return what commands take in place of a run: its folder; anything else is as it is given."""
    return given.folder if isinstance(given, Evaluated) and is_run(given.folder) else _path(given)


def _path(given: str | Path | Evaluated) -> str | Path:
    if isinstance(given, Evaluated):
        raise UserError(f"{given.folder}: is an evaluation; name the run or the checkpoint that it is of")
    return given
