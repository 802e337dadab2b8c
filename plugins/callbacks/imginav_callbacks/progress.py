"""What a person sees while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import ClassVar

from attrs import field, frozen
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from torch import Tensor

from imginav import Callback, hookimpl
from imginav.plugin import TrainingRun, above, format_duration, is_quiet, shows_bars

WARM_UP_STEPS = 10
"""Which say nothing of those to come: they compile, start loading processes, and read what is not in memory yet."""

REFRESH_SECONDS = 0.5
"""Between two readings of the loss for a live display; each reading makes a GPU wait."""


@frozen(kw_only=True)
class Progress(Callback):
    """Show epoch, step, loss terms, images per second and time left: live, or as lines where there is no terminal."""

    observer: ClassVar[bool] = True

    line_seconds: float = field(default=15.0, validator=above(0))  # between two lines where there is no terminal

    def build(self) -> object:
        return ProgressDisplay(self)


class ProgressDisplay:
    """The display of one run."""

    def __init__(self, config: Progress) -> None:
        self._console = Console(highlight=False, markup=False)
        self._quiet = is_quiet()
        self._live = shows_bars(self._console) and not self._quiet
        self._interval = REFRESH_SECONDS if self._live else config.line_seconds
        self._bar: Bar | None = None
        self._task: TaskID
        self._last = 0.0
        self._measured_from: tuple[float, int] | None = None  # a time and the steps until then
        self._first_step = 0  # of this attempt
        self._epoch_start = 0.0
        self._images = 0  # of the epoch, when this attempt came to it

    @hookimpl
    def run_started(self, trainer: TrainingRun) -> None:
        self._last = time.perf_counter()
        self._first_step = trainer.step
        if self._live:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=trainer.epochs * trainer.data.steps_per_epoch, text="starting")
            self._bar.start()

    @hookimpl
    def epoch_started(self, trainer: TrainingRun) -> None:
        self._epoch_start = time.perf_counter()
        self._images = trainer.totals.images if trainer.totals else 0

    @hookimpl
    def step_finished(self, trainer: TrainingRun, terms: Mapping[str, Tensor]) -> None:
        now = time.perf_counter()
        if now - self._last >= self._interval and not self._quiet:
            self._last = now
            self._show(trainer, self._text(trainer, terms, now))
        if self._measured_from is None and trainer.step - self._first_step >= WARM_UP_STEPS:
            self._measured_from = now, trainer.step

    @hookimpl
    def batch_skipped(self, reason: str) -> None:
        self._console.print(reason, soft_wrap=True)

    @hookimpl
    def validation_started(self, trainer: TrainingRun) -> None:
        if self._live:
            self._show(trainer, "validating")

    @hookimpl(trylast=True)
    def epoch_finished(self, trainer: TrainingRun, row: Mapping[str, float]) -> None:
        shown = [f"{name} {row[name]:.5g}" for name in ("train_loss", "val_loss", "val_mse") if name in row]
        if "val_psnr_db" in row:
            shown.append(f"PSNR {row['val_psnr_db']:.2f} dB")
        shown += [f"{row['images_per_second']:.0f} img/s", f"{row['seconds']:.0f} s"]
        mark = "  best" if trainer.best.improved else ""
        if not self._quiet:
            self._console.print(f"{_epoch(trainer)}  {'  '.join(shown)}{mark}", soft_wrap=True)
        self._last = time.perf_counter()

    @hookimpl
    def run_closed(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _show(self, trainer: TrainingRun, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.step, description=_epoch(trainer), text=text)
        else:
            self._console.print(f"{_epoch(trainer)}  {text}", soft_wrap=True)

    def _text(self, trainer: TrainingRun, terms: Mapping[str, Tensor], now: float) -> str:
        steps = trainer.data.steps_per_epoch
        step, images = (trainer.totals.batches, trainer.totals.images) if trainer.totals else (steps, self._images)
        losses = "  ".join(f"{name} {float(term):.4g}" for name, term in terms.items())
        speed = (images - self._images) / max(now - self._epoch_start, 1e-9)
        # What is cut off where a terminal is narrow comes last.
        return f"step {step}/{steps}{self._left(trainer, now)}  {speed:.0f} img/s  {losses}"

    def _left(self, trainer: TrainingRun, now: float) -> str:
        start, first_step = self._measured_from or (now, trainer.step)
        if trainer.step - first_step < WARM_UP_STEPS:
            return ""
        steps_left = trainer.epochs * trainer.data.steps_per_epoch - trainer.step
        return f"  {format_duration((now - start) / (trainer.step - first_step) * steps_left)} left"


def _epoch(trainer: TrainingRun) -> str:
    return f"epoch {trainer.epoch}/{trainer.epochs}"
