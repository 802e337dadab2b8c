"""The metrics of each epoch as a CSV file."""

from __future__ import annotations

import csv
import io
from typing import ClassVar

from attrs import frozen

from imginav import Callback, hookimpl
from imginav.rundir import RunFolder, write_text
from imginav.trainer import Trainer


@frozen(kw_only=True)
class MetricsCsv(Callback):
    """Write a row for each epoch, train and validation side by side, here and in the phase's folder."""

    observer: ClassVar[bool] = True

    def build(self) -> object:
        return MetricsFile()


class MetricsFile:
    """Writes all rows anew after each epoch, so that the file is whole at any time."""

    def __init__(self) -> None:
        self._folder: RunFolder

    @hookimpl
    def run_started(self, folder: RunFolder) -> None:
        self._folder = folder

    @hookimpl
    def epoch_finished(self, trainer: Trainer) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(trainer.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(trainer.history)
        write_text(self._folder.metrics, text.getvalue())
        self._folder.share(self._folder.metrics)
