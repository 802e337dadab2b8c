"""Calls the hooks of a run's callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

from imginav.errors import UserError, did_you_mean
from imginav.plugin.hookspecs import PROJECT, RunSpecs

if TYPE_CHECKING:
    from torch import Tensor

    from imginav.plugin.run_view import ResolvedRun, RunFiles, TrainingRun


RENAMED = {"batch_left_out": "batch_skipped"}
"""Old names of hooks, with the current ones."""


class RunHooks:
    """The one place from which a run's hooks are called."""

    def __init__(self, callbacks: Mapping[str, object]) -> None:
        """Take the callbacks by their name in the manifest, in its order.

        Raises UserError for a callback without hooks, or with one that is not in `RunSpecs`.
        """
        self.callbacks = dict(callbacks)
        self._plugins = pluggy.PluginManager(PROJECT)
        self._plugins.add_hookspecs(RunSpecs)
        # pluggy calls what was registered last first.
        for name, callback in reversed(self.callbacks.items()):
            self._register(name, callback)

    def _register(self, name: str, callback: object) -> None:
        try:
            self._plugins.register(callback, name)
            self._plugins.check_pending()
        except pluggy.PluginValidationError as error:
            known = [event for event in vars(RunSpecs) if not event.startswith("_")]
            wrong = next((part for part in str(error).split("'") if part.isidentifier() and part != name), "")
            hint = f", which is called {RENAMED[wrong]} now" if wrong in RENAMED else did_you_mean(wrong, known)
            raise UserError(
                f"callbacks.{name}: {type(callback).__name__} has a hook that does not fit: "
                f"{' '.join(str(error).split())}{hint}; the events are {', '.join(known)}"
            ) from error
        if not self._plugins.get_hookcallers(callback):
            raise UserError(f"callbacks.{name}: {type(callback).__name__} has no method marked @hookimpl")

    def add(self, name: str, callback: object) -> None:
        """Take in one more callback, which goes before those that are there."""
        self.callbacks[name] = callback
        self._register(name, callback)

    def run_started(self, trainer: TrainingRun, folder: RunFiles, resolved: ResolvedRun) -> None:
        self._plugins.hook.run_started(trainer=trainer, folder=folder, resolved=resolved)

    def epoch_started(self, trainer: TrainingRun, epoch: int) -> None:
        self._plugins.hook.epoch_started(trainer=trainer, epoch=epoch)

    def gradients_ready(self, trainer: TrainingRun) -> None:
        self._plugins.hook.gradients_ready(trainer=trainer)

    def step_finished(self, trainer: TrainingRun, terms: Mapping[str, Tensor]) -> None:
        self._plugins.hook.step_finished(trainer=trainer, terms=terms)

    def batch_skipped(self, trainer: TrainingRun, reason: str) -> None:
        self._plugins.hook.batch_skipped(trainer=trainer, reason=reason)

    def validation_started(self, trainer: TrainingRun, epoch: int) -> None:
        self._plugins.hook.validation_started(trainer=trainer, epoch=epoch)

    def epoch_finished(self, trainer: TrainingRun, row: Mapping[str, float]) -> None:
        self._plugins.hook.epoch_finished(trainer=trainer, row=row)

    def training_finished(self, trainer: TrainingRun) -> None:
        self._plugins.hook.training_finished(trainer=trainer)

    def training_interrupted(self, trainer: TrainingRun) -> None:
        self._plugins.hook.training_interrupted(trainer=trainer)

    def run_closed(self, trainer: TrainingRun) -> None:
        self._plugins.hook.run_closed(trainer=trainer)

    def state_dict(self) -> dict[str, object]:
        """Return the state of each callback that keeps one, by name."""
        return {name: c.state_dict() for name, c in self.callbacks.items() if hasattr(c, "state_dict")}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Give each callback its state back; one that has none in `state` starts anew."""
        for name, callback in self.callbacks.items():
            if name in state and hasattr(callback, "load_state_dict"):
                callback.load_state_dict(state[name])
