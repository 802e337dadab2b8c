"""Keeps the weights: the best, the latest, and some on the way."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from imginav import Callback, hookimpl
from imginav.checkpoint import Checkpoint
from imginav.checks import at_least
from imginav.loading import ResolvedManifest
from imginav.rundir import RunFolder
from imginav.trainer import Trainer


@frozen(kw_only=True)
class Checkpointing(Callback):
    """Write the latest checkpoint after each epoch, the best when it is, and a numbered one every few epochs."""

    observer: ClassVar[bool] = True

    every: int | None = field(default=None, validator=at_least(1))  # epochs between numbered ones; none: no such ones
    keep: int | None = field(default=None, validator=at_least(1))  # how many numbered ones, the newest; none: all

    def build(self) -> object:
        return Checkpointer(self)

    def disk_bytes(self, weights: int, training: int, epochs: int) -> int:
        numbered = epochs // self.every if self.every else 0
        return weights + training * (1 + min(numbered, self.keep or numbered))


class Checkpointer:
    """Writes the checkpoints of a run."""

    def __init__(self, config: Checkpointing) -> None:
        self._config = config
        self._folder: RunFolder
        self._resolved: ResolvedManifest

    @hookimpl
    def run_started(self, folder: RunFolder, resolved: ResolvedManifest) -> None:
        self._folder, self._resolved = folder, resolved

    @hookimpl(trylast=True)  # what it saves holds the state of all others after this epoch
    def epoch_finished(self, trainer: Trainer) -> None:
        if trainer.best.improved:
            self._checkpoint(trainer, with_training=False).save(self._folder.best_checkpoint)
        latest = self._checkpoint(trainer, with_training=True)
        latest.save(self._folder.latest_checkpoint)
        if self._config.every and trainer.epoch % self._config.every == 0:
            latest.save(self._folder.numbered_checkpoint(trainer.epoch))
            if self._config.keep:
                for old in self._folder.numbered_checkpoints()[: -self._config.keep]:
                    old.unlink()

    def _checkpoint(self, trainer: Trainer, *, with_training: bool) -> Checkpoint:
        return Checkpoint(
            model=trainer.model.state_dict(),
            epoch=trainer.epoch,
            metrics=trainer.history[-1],
            manifest=self._resolved.to_toml(),
            origins=self._resolved.origins,
            training=trainer.state_dict() if with_training else None,
        )
