"""Keeps the weights: the best, the latest, and some on the way."""

from __future__ import annotations

import time
from typing import ClassVar

from attrs import evolve, field, frozen

from imginav import Callback, UserError, hookimpl
from imginav.plugin import Checkpoint, ResolvedRun, RunFiles, TrainingRun, at_least, load_checkpoint


@frozen(kw_only=True)
class Checkpointing(Callback):
    """Write the latest checkpoint after each epoch and every few minutes, the best when it is, and numbered ones."""

    observer: ClassVar[bool] = True

    every: int | None = field(default=None, validator=at_least(1))  # epochs between numbered ones; none: no such ones
    keep: int | None = field(default=None, validator=at_least(1))  # how many numbered ones, the newest; none: all
    minutes: float = field(default=10.0, validator=at_least(0))  # between two of the latest, within an epoch

    def build(self) -> object:
        return Checkpointer(self)

    def disk_bytes(self, weights: int, training: int, epochs: int) -> int:
        numbered = epochs // self.every if self.every else 0
        # The latest, the one before, and the next while it is written.
        return weights + training * (3 + min(numbered, self.keep or numbered))


class Checkpointer:
    """Writes the checkpoints of a run.

    The latest is written before the best: where a run is killed between the two, the best can be made of the latest.
    """

    def __init__(self, config: Checkpointing) -> None:
        self._config = config
        self._folder: RunFiles
        self._resolved: ResolvedRun
        self._manifest: str  # as TOML, serialised once per run
        self._saved = time.monotonic()
        self._place: tuple[int, int | None] | None = None  # the epoch, and the batches within it, of the latest

    @hookimpl
    def run_started(self, trainer: TrainingRun, folder: RunFiles, resolved: ResolvedRun) -> None:
        self._folder, self._resolved, self._manifest = folder, resolved, resolved.to_toml()
        self._saved = time.monotonic()
        self._mend_best(trainer)

    @hookimpl(trylast=True)  # the trained weights are put back before
    def epoch_started(self, trainer: TrainingRun) -> None:
        # What it goes on from may lie elsewhere; killed before its first save, it would start anew.
        if trainer.step and not self._folder.latest_checkpoint.exists():
            self._save_latest(trainer)

    @hookimpl(trylast=True)
    def step_finished(self, trainer: TrainingRun) -> None:
        if time.monotonic() - self._saved >= 60 * self._config.minutes:
            self._save_latest(trainer)

    @hookimpl(trylast=True)
    def training_interrupted(self, trainer: TrainingRun) -> None:
        self._save_latest(trainer)

    @hookimpl(trylast=True)  # what it saves holds the state of all others after this epoch
    def epoch_finished(self, trainer: TrainingRun) -> None:
        self._save_latest(trainer)
        if self._config.every and trainer.epoch % self._config.every == 0:
            self._checkpoint(trainer).save(self._folder.numbered_checkpoint(trainer.epoch))
            if self._config.keep:
                for old in self._folder.numbered_checkpoints()[: -self._config.keep]:
                    old.unlink()
        if trainer.best.improved:
            self._save_best(trainer)

    @hookimpl(trylast=True)  # the best weights may be restored just before
    def training_finished(self, trainer: TrainingRun) -> None:
        self._mend_best(trainer)

    def _save_latest(self, trainer: TrainingRun) -> None:
        place = trainer.epoch, trainer.totals.batches if trainer.totals else None
        if place != self._place:
            self._checkpoint(trainer).save(self._folder.latest_checkpoint, keep=self._folder.previous_checkpoint)
            self._place, self._saved = place, time.monotonic()

    def _save_best(self, trainer: TrainingRun) -> None:
        """Write the model's weights, which are the best."""
        row = next(row for row in trainer.history if row["epoch"] == trainer.best.epoch)
        best = evolve(self._checkpoint(trainer), epoch=int(row["epoch"]), metrics=row, training=None)
        best.save(self._folder.best_checkpoint)

    def _mend_best(self, trainer: TrainingRun) -> None:
        """Write the best checkpoint, where the model holds the best weights and the file others, or none."""
        best = trainer.best
        if trainer.totals is not None or best.epoch is None or trainer.weights_epoch != best.epoch:
            return
        try:
            there = load_checkpoint(self._folder.best_checkpoint)
        except UserError:  # missing or damaged
            self._save_best(trainer)
        else:
            if (there.epoch, there.metrics.get(best.metric)) != (best.epoch, best.value):
                self._save_best(trainer)

    def _checkpoint(self, trainer: TrainingRun) -> Checkpoint:
        return Checkpoint(
            model=trainer.model.state_dict(),
            epoch=trainer.epoch,
            metrics=trainer.history[-1] if trainer.history else {},
            manifest=self._manifest,
            origins=self._resolved.origins,
            trial=self._resolved.trial,
            spec=trainer.data.source.spec,
            training=trainer.state_dict(),
        )
