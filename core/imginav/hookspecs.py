"""Every hook of imginav: when it fires, what it receives, what it may return.

`PluginSpecs` is for installed plugins, through the entry-point group `imginav`. `RunSpecs` is for the callbacks of
one run. A hook may leave out the arguments that it does not need.

Order: the callbacks of a run are called in the order in which they stand in its manifest. A hook marked
`@hookimpl(tryfirst=True)` goes before them, one marked `trylast=True` after them: averaged weights are put in place
first, checkpoints are written last, so that they hold what all the others know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

from imginav.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from imginav.loading import ResolvedManifest
    from imginav.registry import Registry
    from imginav.rundir import RunFolder
    from imginav.trainer import Trainer

PROJECT = "imginav"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class PluginSpecs:
    """What an installed plugin offers."""

    @hookspec
    def imginav_components(self, registry: Registry) -> None:
        """Fires once at start, for each plugin: register components with `registry.add(kind, name, class)`."""


class RunSpecs:
    """The events of a run, in the order in which they first fire. None of them returns anything."""

    @hookspec
    def run_started(self, trainer: Trainer, folder: RunFolder, resolved: ResolvedManifest) -> None:
        """Fires once, before the first epoch; the model stands on its device, the run folder is there."""

    @hookspec
    def epoch_started(self, trainer: Trainer, epoch: int) -> None:
        """Fires before the first step of an epoch, and where a resumed run goes on within one; epochs count from 1."""

    @hookspec
    def gradients_ready(self, trainer: Trainer) -> None:
        """Fires before each optimizer step; the gradients are whole and unscaled, and may be changed in place."""

    @hookspec
    def step_finished(self, trainer: Trainer, terms: Mapping[str, Tensor]) -> None:
        """Fires after each optimizer step with the loss terms of its batch: scalars on the device, unweighted by
        name, and their weighted sum as `loss`. Reading a value makes a GPU wait.
        """

    @hookspec
    def batch_left_out(self, trainer: Trainer, reason: str) -> None:
        """Fires instead of `step_finished` for a batch without a step, because its loss or a gradient was not finite
        and `train.on_non_finite` is `skip`; the reason is a sentence.
        """

    @hookspec
    def validation_started(self, trainer: Trainer, epoch: int) -> None:
        """Fires after the last step of an epoch, before its validation; from here to the next `epoch_started` the
        model holds the weights that are judged and kept.
        """

    @hookspec
    def epoch_finished(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Fires after the validation with the epoch's row of metrics; `trainer.best` has seen it already.

        `trainer.stop(reason)` ends the training after this epoch.
        """

    @hookspec
    def training_finished(self, trainer: Trainer) -> None:
        """Fires once after the last epoch; the weights that the model holds afterwards are the run's result."""

    @hookspec
    def training_interrupted(self, trainer: Trainer) -> None:
        """Fires once where a run is asked to leave (a signal, its time limit), after a step or a batch of the
        validation: save what it needs to go on. No other event but `run_closed` follows.
        """

    @hookspec
    def run_closed(self, trainer: Trainer) -> None:
        """Fires once at the very end, also after a failure: give back what is open (displays, files)."""


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
            raise UserError(
                f"callbacks.{name}: {type(callback).__name__} has a hook that does not fit: "
                f"{' '.join(str(error).split())}{did_you_mean(wrong, known)}; the events are {', '.join(known)}"
            ) from error
        if not self._plugins.get_hookcallers(callback):
            raise UserError(f"callbacks.{name}: {type(callback).__name__} has no method marked @hookimpl")

    def add(self, name: str, callback: object) -> None:
        """Take in one more callback, which goes before those that are there."""
        self.callbacks[name] = callback
        self._register(name, callback)

    def run_started(self, trainer: Trainer, folder: RunFolder, resolved: ResolvedManifest) -> None:
        self._plugins.hook.run_started(trainer=trainer, folder=folder, resolved=resolved)

    def epoch_started(self, trainer: Trainer, epoch: int) -> None:
        self._plugins.hook.epoch_started(trainer=trainer, epoch=epoch)

    def gradients_ready(self, trainer: Trainer) -> None:
        self._plugins.hook.gradients_ready(trainer=trainer)

    def step_finished(self, trainer: Trainer, terms: Mapping[str, Tensor]) -> None:
        self._plugins.hook.step_finished(trainer=trainer, terms=terms)

    def batch_left_out(self, trainer: Trainer, reason: str) -> None:
        self._plugins.hook.batch_left_out(trainer=trainer, reason=reason)

    def validation_started(self, trainer: Trainer, epoch: int) -> None:
        self._plugins.hook.validation_started(trainer=trainer, epoch=epoch)

    def epoch_finished(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        self._plugins.hook.epoch_finished(trainer=trainer, row=row)

    def training_finished(self, trainer: Trainer) -> None:
        self._plugins.hook.training_finished(trainer=trainer)

    def training_interrupted(self, trainer: Trainer) -> None:
        self._plugins.hook.training_interrupted(trainer=trainer)

    def run_closed(self, trainer: Trainer) -> None:
        self._plugins.hook.run_closed(trainer=trainer)

    def state_dict(self) -> dict[str, object]:
        """Return the state of each callback that keeps one, by name."""
        return {name: c.state_dict() for name, c in self.callbacks.items() if hasattr(c, "state_dict")}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Give each callback its state back; one that has none in `state` starts anew."""
        for name, callback in self.callbacks.items():
            if name in state and hasattr(callback, "load_state_dict"):
                callback.load_state_dict(state[name])
