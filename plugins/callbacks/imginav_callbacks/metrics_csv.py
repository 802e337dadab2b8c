"""The metrics of each epoch as a CSV file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from attrs import frozen

from imginav import Callback, hookimpl
from imginav.plugin import RunFiles, TrainingRun, write_rows


@frozen(kw_only=True)
class MetricsCsv(Callback):
    """Write a row for each epoch, train and validation side by side, here and in the phase's folder."""

    observer: ClassVar[bool] = True

    def build(self) -> object:
        return MetricsFile()


class MetricsFile:
    """Writes all rows anew after each epoch, so that the file is whole at any time.

    Where a run goes on, the file first becomes what the run knows: no row is lost, and none is there twice.
    """

    def __init__(self) -> None:
        self._folder: RunFiles

    @hookimpl
    def run_started(self, trainer: TrainingRun, folder: RunFiles) -> None:
        self._folder = folder
        if trainer.history:
            self._write(trainer.history)

    @hookimpl
    def epoch_finished(self, trainer: TrainingRun) -> None:
        self._write(trainer.history)

    def _write(self, rows: Sequence[Mapping[str, float]]) -> None:
        # A column that a changed manifest brings stands behind those that were there; earlier rows are empty in it.
        write_rows(self._folder.metrics, rows)
        self._folder.share(self._folder.metrics)
