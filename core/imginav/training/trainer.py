"""The loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from attrs import asdict, evolve, frozen
from torch import Tensor

from imginav.data.batches import layouts_in
from imginav.errors import UserError, refuse_old_name
from imginav.manifest.tables import Train
from imginav.processes.distributed import ALONE, Shard, World
from imginav.processes.stop_request import Interrupted, StopRequest
from imginav.seeds import Seeds
from imginav.training import library_seeds
from imginav.training.assembly import Assembly
from imginav.training.best_epoch import BestEpoch
from imginav.training.epoch_totals import EpochTotals
from imginav.training.gradients import Gradients
from imginav.training.metric_definitions import TOTAL, metric_columns
from imginav.training.optimization import Optimization
from imginav.training.run_hooks import RunHooks
from imginav.training.trained_weights import TrainedWeights
from imginav.training.validation import validate

Batches = TypeVar("Batches")

NAMES_SHOWN = 3
"""How many of the parameters without a finite gradient are named."""

STEPS_PER_CHECK = 50
"""On a GPU: it works ahead of the program, and would wait if each step's loss were read to see whether it is finite."""


@frozen
class PendingCheck:
    """A step of which nobody has looked yet whether it was finite."""

    step: int
    batch: int  # of its epoch, from 0
    terms: dict[str, Tensor]  # scalars on the device
    gradient_norm: Tensor


class Trainer:
    """Trains an autoencoder, and tells the callbacks of its run what happens."""

    def __init__(self, settings: Train, assembly: Assembly, optimization: Optimization, hooks: RunHooks) -> None:
        self.epochs = settings.epochs
        self.model = assembly.model
        self.objective = assembly.objective
        self.data = assembly.data
        self.device = assembly.device
        self.optimization = optimization
        self.hooks = hooks
        self.epoch = 0  # the epoch that runs, or was finished last; they count from 1
        self.totals: EpochTotals | None = None  # of the epoch that runs; none: between two epochs
        self.step = 0  # optimizer steps so far
        self.gradient_norm: Tensor | None = None  # of the last step, before a callback has changed the gradients
        self.learning_rate = 0.0  # of the last step
        self.best = BestEpoch(
            settings.monitor, settings.monitor_mode, metric_columns(self.objective.weights, self.model.output_names)
        )
        self.weights_epoch = 0  # the epoch whose weights the model holds
        self.history: list[dict[str, float]] = []  # a row of metrics for each finished epoch
        self.stop_reason = ""
        self.notes: list[str] = []  # what was out of the ordinary, for people
        self.left_out = 0  # batches without a step, because something was not finite
        self._settings = settings
        self._seeds = Seeds(settings.seed)
        self._trained_weights = TrainedWeights(self.model)
        self._gradients = Gradients(assembly, optimization, note=lambda text: self.notes.append(text))
        self._stop_request = StopRequest()
        self._training = False
        self._advanced = False  # whether this attempt has taken a step or finished an epoch
        self._pending: list[PendingCheck] = []
        # Where a step may have to be left out, it must be known before it is taken.
        ahead = self.device.works_ahead and settings.on_non_finite == "stop" and not self.device.scales_gradients
        self._steps_per_check = STEPS_PER_CHECK if ahead else 1

    @property
    def world(self) -> World:
        """The processes that train together."""
        return self.device.world

    def fit(self, stop_request: StopRequest | None = None) -> None:
        """Train to the last epoch, or until a callback stops it; raises Interrupted where it is asked to leave."""
        self._stop_request = stop_request or self._stop_request
        self._training = True
        self.connect()
        while self.totals or (self.epoch < self.epochs and not self.stop_reason):
            if self.totals is None:
                self.epoch += 1
                self.totals = EpochTotals(learning_rate=self.optimization.learning_rate)
            self.restore_weights()
            self._seed_libraries("epoch")
            self.hooks.epoch_started(self, self.epoch)
            self._train_epoch(self.totals)
            self._judge_epoch(self.totals)
            self._stop_if_requested()
        self._training = False
        self.hooks.training_finished(self)

    def connect(self) -> None:
        """Bring the gradients of all processes together in each step from now on."""
        self._gradients.connect(self.world)

    def stop(self, reason: str) -> None:
        """End the training after the epoch that runs; the reason is for people."""
        self.stop_reason = reason

    def replace_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put other weights, by parameter name, into the model; the trained ones are put back before the next epoch."""
        self._trained_weights.replace(weights)

    def restore_weights(self) -> None:
        """Put the trained weights back, where others have replaced them."""
        self._trained_weights.restore()

    def validate(self) -> dict[str, float]:
        """Return the metrics of the model's present weights over the validation layouts.

        Where several processes train, all of them have to ask for it.
        """
        self.world.align_buffers(self.model)
        return validate(self.model, self.objective, self.unless_stopped(self.data.validation_batches()), self.device)

    def _train_epoch(self, totals: EpochTotals) -> None:
        """Take the steps of one epoch, or those that are left of it, or none where all epochs have been trained."""
        if self.epoch > self.epochs:  # it is resumed with fewer, and the epoch that it was in ends where it is
            return
        self.model.train()
        start = time.perf_counter() - totals.seconds
        for sample_bytes in self.data.train_batches(self.epoch, totals.batches):
            shard = self.world.shard(layouts_in(sample_bytes))
            terms = None
            if shard.total:  # or nothing of it could be read, and data.on_bad is skip
                batch = self.device.batch(sample_bytes) if sample_bytes else {}
                terms = self.train_step(batch, shard)
                if terms is not None:
                    totals.add(terms, shard.total)
            totals.batches += 1
            totals.seconds = time.perf_counter() - start
            self._advanced = True
            if terms is not None:
                self.hooks.step_finished(self, terms)
            self._stop_if_requested()

    def _judge_epoch(self, totals: EpochTotals) -> None:
        """Validate, and tell the callbacks how the epoch went."""
        self._check_pending()
        if not totals.images:
            raise UserError(f"epoch {self.epoch} had no batch that led to a step; see the lines above")
        start = time.perf_counter()
        # A loss that came in when all steps of the epoch were taken has no mean.
        means = {**dict.fromkeys(self.objective.weights, math.nan), **totals.means}
        self.hooks.validation_started(self, self.epoch)
        self.weights_epoch = self.epoch
        self._seed_libraries("validation")
        row = {
            "epoch": self.epoch,
            **self.objective.columns(means, "train"),
            **self.validate(),
            "learning_rate": totals.learning_rate,
            "seconds": totals.seconds + time.perf_counter() - start,
            "images_per_second": totals.images / totals.seconds,
        }
        self.totals, self._advanced = None, True
        row = self.world.broadcast(row)  # their clocks differ
        for unreadable in self.world.all_gather(self.data.state_dict()):
            self.data.load_state_dict(unreadable)
        self.history.append(row)
        self.best.see(row, self.epoch)
        self.hooks.epoch_finished(self, row)
        self.stop_reason = self.world.broadcast(self.stop_reason)  # it alone has all callbacks

    def train_step(self, batch: Mapping[str, Tensor], shard: Shard | None = None) -> dict[str, Tensor] | None:
        """Take one optimizer step; return the loss terms, each a scalar on the device without gradients.

        Where several processes train, `batch` is this one's `shard` of the whole batch: its rows, or nothing, where
        there are fewer rows than processes. Of a batch that is left out because something is not finite, it returns
        none.
        """
        self._seed_libraries("step")
        shard = shard or Shard(0, len(batch["rgb"]))
        means, norm = self._gradients.compute(batch, shard, self._seeds.derive("noise", self.step))
        self.gradient_norm = norm
        if self._steps_per_check > 1:
            self._pending.append(PendingCheck(self.step + 1, self._batch_number, means, norm))
            if len(self._pending) == self._steps_per_check:
                self._check_pending()
        elif wrong := self._not_finite(means, norm):
            self._leave_batch_out(wrong)
            return None
        self.hooks.gradients_ready(self)
        self.learning_rate = self.optimization.learning_rate
        self.optimization.step()
        self.step += 1
        return means

    def _seed_libraries(self, place: str) -> None:
        """Put the generators that plugins draw from (dropout) where they are at this place of any such run."""
        library_seeds.start(self._seeds, place, self.epoch, self.step, self.world.rank)

    @property
    def _batch_number(self) -> int:
        """The number within its epoch of the batch that is trained on, from 0."""
        return self.totals.batches if self.totals else 0

    def _not_finite(self, terms: Mapping[str, Tensor], gradient_norm: Tensor) -> str:
        """Return what of a step is not finite, or nothing."""
        # One reading for both, since each makes a GPU wait.
        if bool(torch.isfinite(terms[TOTAL] + gradient_norm)):
            return ""
        if wrong := _wrong_terms(terms):
            return wrong
        if self.optimization.leaves_out_overflows:
            return ""
        names = [
            name
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
        ]
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        which = f"that of {', '.join(names[:NAMES_SHOWN])}{more}" if names else "the norm of all together"
        return f"a gradient is not finite: {which}"

    def _check_pending(self) -> None:
        """Look whether the steps since the last reading were finite; raises UserError with the first that was not.

        What follows such a step is spoiled, so this comes before anything is judged or saved.
        """
        unread, self._pending = self._pending, []
        if not unread:
            return
        finite = torch.stack([step.terms[TOTAL] + step.gradient_norm for step in unread]).isfinite().tolist()
        if all(finite):
            return
        first = unread[finite.index(False)]
        wrong = _wrong_terms(first.terms) or "a gradient is not finite: the norm of all together"
        raise self._stopped(
            f"after step {self.step}, of which step {first.step} (epoch {self.epoch}, batch {first.batch + 1}) spoiled "
            f"the weights",
            wrong,
            "set train.on_non_finite = 'skip' to leave single batches out, lower",
            self.data.names_of_batch(self.epoch, first.batch),
        )

    def _leave_batch_out(self, wrong: str) -> None:
        """Go on without a step, where the manifest says so, or raise UserError."""
        layouts = self.data.names_of_batch(self.epoch, self._batch_number)
        where = f"step {self.step + 1} (epoch {self.epoch}, batch {self._batch_number + 1})"
        skips = self._settings.on_non_finite == "skip"
        if skips and self.left_out < self._settings.non_finite_limit:
            self.optimization.leave_out()
            self.left_out += 1
            reason = f"no {where}, because {wrong}; its layouts: {', '.join(layouts)}"
            self.notes.append(reason)
            self.hooks.batch_skipped(self, reason)
            return
        remedy = (
            f"train.non_finite_limit = {self._settings.non_finite_limit} batches were left out before: lower"
            if skips
            else "set train.on_non_finite = 'skip' to leave single batches out, lower"
        )
        raise self._stopped(f"before {where}", wrong, remedy, layouts)

    def _stopped(self, where: str, wrong: str, remedy: str, layouts: Sequence[str]) -> UserError:
        return UserError(
            f"training stopped {where}, because {wrong}; the latest checkpoint is from before it; {remedy} "
            "train.optimizer.learning_rate and train anew with --resume never, clip gradients with [callbacks] "
            "gradient_clipping = {}, or set machine.precision = 'fp32'; the layouts of the batch:\n  "
            + "\n  ".join(layouts)
        )

    def unless_stopped(self, batches: Iterable[Batches]) -> Iterator[Batches]:
        """Return the batches one by one; raises Interrupted between two of them where the run is asked to leave."""
        for batch in self.world.join(batches):
            self._stop_if_requested()
            if batch is not None:
                yield batch

    def _stop_if_requested(self) -> None:
        """Save and leave between two steps, or two batches of the validation, where the run is asked to."""
        if not (reason := self.world.any(self._stop_request.check(advanced=self._advanced))):
            return
        if self._training:
            self.hooks.training_interrupted(self)
        self.world.barrier()  # until the first one has saved
        raise Interrupted(reason)

    def leave_group(self) -> None:
        """Leave the other processes behind: what follows the training is the first one's alone."""
        self.device = evolve(self.device, world=ALONE)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a restart needs beside the model's weights; raises UserError where these are spoiled."""
        self._check_pending()
        return {
            "epoch": self.epoch,
            "tally": asdict(self.totals) if self.totals else None,
            "step": self.step,
            "history": self.history,
            "stop_reason": self.stop_reason,
            "notes": self.notes,
            "left_out": self.left_out,
            "best": self.best.state_dict(),
            "optimization": self.optimization.state_dict(),
            "trained_weights": self._trained_weights.state_dict(),
            "callbacks": self.hooks.state_dict(),
            "data": self._data_fingerprint(),
            "unreadable": self.data.state_dict(),
        }

    def _data_fingerprint(self) -> dict[str, str]:
        layouts, split = self.data.fingerprint.layouts, self.data.fingerprint.split
        return {"layouts": layouts.sha256, "split": split.sha256, "description": layouts.description}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was taken; the model's weights are loaded apart."""
        self.epoch, self.step = state["epoch"], state["step"]
        totals = state["tally"]
        self.totals = totals and EpochTotals(
            **{**totals, "sums": {name: total.to(self.device.device) for name, total in totals["sums"].items()}}
        )
        self.weights_epoch = self.epoch
        self.history = [dict(row) for row in state["history"]]
        self.stop_reason = state["stop_reason"]
        self.notes, self.left_out = list(state["notes"]), state["left_out"]
        self.best.load_state_dict(state["best"])
        self.optimization.load_state_dict(state["optimization"])
        # Checkpoints of earlier versions have none; a callback that had replaced the weights kept the trained ones.
        self._trained_weights.load_state_dict(state.get("trained_weights", {}))
        self.hooks.load_state_dict(state["callbacks"])
        self.data.load_state_dict(state["unreadable"])

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name):
            refuse_old_name("trainer", name, {"tally": "totals"})
            return object.__getattribute__(self, name)


def _wrong_terms(terms: Mapping[str, Tensor]) -> str:
    """Return which loss terms are not finite, or nothing."""
    wrong = [f"{name} = {term.item()}" for name, term in terms.items() if not torch.isfinite(term)]
    return f"its loss is not finite: {', '.join(wrong)}" if wrong else ""
