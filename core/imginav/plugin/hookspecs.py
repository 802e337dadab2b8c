"""The hooks of a run's callbacks: when each fires, what it receives, what it may return.

The hooks of installed plugins stand with what they receive: `PluginSpecs` in `imginav.plugin.registry`, `CommandSpecs`
in `imginav.plugin.commands`. A hook may leave out the arguments that it does not need.

Order: the callbacks of a run are called in the order in which they stand in its manifest. A hook marked
`@hookimpl(tryfirst=True)` goes before them, one marked `trylast=True` after them: averaged weights are put in place
first, checkpoints are written last, so that they hold what all the others know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from torch import Tensor

    from imginav.plugin.run_view import ResolvedRun, RunFiles, TrainingRun

PROJECT = "imginav"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class RunSpecs:
    """The events of a run, in the order in which they first fire. None of them returns anything."""

    @hookspec
    def run_started(self, trainer: TrainingRun, folder: RunFiles, resolved: ResolvedRun) -> None:
        """Fires once, before the first epoch; the model stands on its device, the run folder is there."""

    @hookspec
    def epoch_started(self, trainer: TrainingRun, epoch: int) -> None:
        """Fires before the first step of an epoch, and where a resumed run goes on within one; epochs count from 1."""

    @hookspec
    def gradients_ready(self, trainer: TrainingRun) -> None:
        """Fires before each optimizer step; the gradients are whole and unscaled, and may be changed in place."""

    @hookspec
    def step_finished(self, trainer: TrainingRun, terms: Mapping[str, Tensor]) -> None:
        """Fires after each optimizer step with the loss terms of its batch: scalars on the device, unweighted by
        name, and their weighted sum as `loss`. Reading a value makes a GPU wait.
        """

    @hookspec
    def batch_skipped(self, trainer: TrainingRun, reason: str) -> None:
        """Fires instead of `step_finished` for a batch without a step, because its loss or a gradient was not finite
        and `train.on_non_finite` is `skip`; the reason is a sentence.
        """

    @hookspec
    def validation_started(self, trainer: TrainingRun, epoch: int) -> None:
        """Fires after the last step of an epoch, before its validation; from here to the next `epoch_started` the
        model holds the weights that are judged and kept.
        """

    @hookspec
    def epoch_finished(self, trainer: TrainingRun, row: Mapping[str, float]) -> None:
        """Fires after the validation with the epoch's row of metrics; `trainer.best` has seen it already.

        `trainer.stop(reason)` ends the training after this epoch.
        """

    @hookspec
    def training_finished(self, trainer: TrainingRun) -> None:
        """Fires once after the last epoch; the weights that the model holds afterwards are the run's result."""

    @hookspec
    def training_interrupted(self, trainer: TrainingRun) -> None:
        """Fires once where a run is asked to leave (a signal, its time limit), after a step or a batch of the
        validation: save what it needs to go on. No other event but `run_closed` follows.
        """

    @hookspec
    def run_closed(self, trainer: TrainingRun) -> None:
        """Fires once at the very end, also after a failure: give back what is open (displays, files)."""
