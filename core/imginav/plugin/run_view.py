"""What a callback may touch of a run, as protocols: the trainer, its parts, the run folder and the resolved manifest.

The core's own classes have more than this. What is not listed here may change in any version.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from imginav.plugin.components import Callback, Dataset, Decoder, Encoder, LayoutSource, Loss

T = TypeVar("T")


class BestEpoch(Protocol):
    """The best epoch so far by `train.monitor`: the one definition of best that everything shares."""

    @property
    def metric(self) -> str:
        """The name of the monitored metric."""

    @property
    def epoch(self) -> int | None:
        """The best epoch; None as long as no epoch had a finite value."""

    @property
    def value(self) -> float | None:
        """The metric in that epoch."""

    @property
    def improved(self) -> bool:
        """Whether the epoch that was validated last is the best one."""

    def is_better(self, value: float, reference: float | None, by: float = 0.0, *, relative: bool = False) -> bool:
        """Whether a value improves on a reference by more than `by`; any finite value improves on None."""


class EpochTotals(Protocol):
    """The running totals of the epoch that is being trained."""

    @property
    def batches(self) -> int:
        """Batches read so far, whether they led to a step or not."""

    @property
    def images(self) -> int:
        """Images in the batches that led to steps."""


class TrainingData(Protocol):
    """The opened data set of a run."""

    @property
    def source(self) -> LayoutSource:
        """The layouts; `source.spec` says what they are made of."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch in which no batch is skipped."""

    def validation_samples(self, count: int) -> dict[str, Tensor]:
        """Return the first readable validation layouts, always the same ones, as a batch of bytes:
        `rgb` (N, H, W, 3) and, where the data set has them, `segmentation` (N, H, W) and `label` (N).
        """


class ComputeDevice(Protocol):
    """The device that a run computes on."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the network runs in the precision of the run."""

    def batch(self, sample_bytes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Move a batch of bytes to the device: `rgb` becomes (N, 3, H, W) floats in [-1, 1], the rest int64."""


class ProcessGroup(Protocol):
    """The processes that train a run together; a run of one process has a group of one."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """The number of processes."""

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the only one that writes files and prints."""

    def broadcast(self, value: T) -> T:
        """Return the value of rank 0. Collective: every rank must call it."""

    def all_gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order. Collective: every rank must call it."""


class TrainingRun(Protocol):
    """A run while it trains: the `trainer` that hooks receive.

    Everything is for reading but two: `replace_weights` puts other weights into the model for the validation, and
    `weights_epoch` is set by a callback that leaves the weights of an earlier epoch at the end.
    """

    weights_epoch: int
    """The epoch whose weights the model holds after a validation."""

    @property
    def model(self) -> nn.Module:
        """The autoencoder; called with images (N, 3, H, W) in [-1, 1], it returns all outputs by name."""

    @property
    def epoch(self) -> int:
        """The epoch that is being trained, or was finished last; epochs count from 1."""

    @property
    def epochs(self) -> int:
        """The number of epochs that the run trains at most."""

    @property
    def step(self) -> int:
        """Optimizer steps taken so far, over all epochs and attempts."""

    @property
    def gradient_norm(self) -> Tensor | None:
        """The Euclidean norm of all gradients of the last step, before callbacks changed them: a scalar on the device.

        None before the first step of this attempt. Reading its value makes a GPU wait.
        """

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last step."""

    @property
    def totals(self) -> EpochTotals | None:
        """The running totals of the current epoch; None between two epochs."""

    @property
    def history(self) -> Sequence[dict[str, float]]:
        """One row of metrics for each finished epoch."""

    @property
    def best(self) -> BestEpoch:
        """The best epoch so far."""

    @property
    def data(self) -> TrainingData:
        """The opened data set."""

    @property
    def device(self) -> ComputeDevice:
        """The device that the run computes on."""

    @property
    def world(self) -> ProcessGroup:
        """The processes that train the run together."""

    def replace_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put other weights into the model, by parameter name, to be validated and saved.

        Before the next epoch starts the trainer puts the trained weights back. It saves them with its own state, so
        that a run also resumes from them without the callback that has replaced them.
        """

    def stop(self, reason: str) -> None:
        """End the training after the current epoch; the reason is shown to people."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that a restart needs besides the model's weights."""


class RunFiles(Protocol):
    """The folder of a run: the names of its files, which the users' own scripts read."""

    @property
    def root(self) -> Path:
        """The run folder."""

    @property
    def metrics(self) -> Path:
        """The CSV file with one row of metrics for each epoch."""

    @property
    def steps(self) -> Path:
        """The CSV file with the losses, gradient norm and learning rate of the steps."""

    @property
    def evaluation(self) -> Path:
        """The evaluation of the weights that the run leaves, `evaluation.json`."""

    @property
    def best_checkpoint(self) -> Path:
        """The weights of the best epoch."""

    @property
    def latest_checkpoint(self) -> Path:
        """The newest checkpoint that the run can resume from."""

    @property
    def previous_checkpoint(self) -> Path:
        """The latest checkpoint before the latest, for when that one is damaged."""

    def numbered_checkpoint(self, epoch: int) -> Path:
        """Return the path of the checkpoint of an epoch."""

    def numbered_checkpoints(self) -> list[Path]:
        """Return the numbered checkpoints that exist, oldest epoch first."""

    def samples(self, epoch: int) -> Path:
        """Return the path of the sample picture of an epoch."""

    def share(self, path: Path) -> None:
        """Copy one of the run's files into the shared folder of its phase."""


class RunComponents(Protocol):
    """The components that a resolved manifest names, built from its tables."""

    @property
    def data(self) -> Dataset:
        """The data set; `data.open()` opens its layouts."""

    @property
    def encoder(self) -> Encoder:
        """The encoder."""

    @property
    def decoder(self) -> Decoder:
        """The decoder with its heads."""

    @property
    def losses(self) -> Mapping[str, Loss]:
        """The losses by their names in the manifest."""

    @property
    def callbacks(self) -> Mapping[str, Callback]:
        """The callbacks by their names in the manifest."""


class ResolvedRun(Protocol):
    """The resolved manifest of a run: every value with its origin."""

    @property
    def name(self) -> str:
        """What the phase calls the experiment, such as L3."""

    @property
    def manifest(self) -> RunComponents:
        """The components that the manifest names."""

    @property
    def tables(self) -> Mapping[str, Any]:
        """The manifest as TOML tables, every value written out."""

    @property
    def origins(self) -> dict[str, str]:
        """Where each value came from, by dotted key: a file, the winner of a phase, `--set` or `default`."""

    @property
    def trial(self) -> bool:
        """Whether the phase's [trial] values are in force."""

    def to_toml(self) -> str:
        """Return the manifest as TOML, with each value's origin in a comment beside it."""


class FinishedRun(Protocol):
    """A run whose training has ended, as the hook `run_finished` receives it.

    The trainer holds the weights that the run leaves; `folder` is where files about them go.
    """

    @property
    def trainer(self) -> TrainingRun:
        """The trainer with the final weights."""

    @property
    def folder(self) -> RunFiles:
        """The run folder."""

    @property
    def resolved(self) -> ResolvedRun:
        """The resolved manifest."""

    @property
    def timed(self) -> bool:
        """Whether times mean something: False where other experiments train beside this one."""


class ExperimentState(Protocol):
    """One experiment of a phase that was run, as far as it has come."""

    @property
    def run(self) -> str:
        """The name of the run, which is that of its folder."""

    @property
    def state(self) -> str:
        """`finished`, `running`, `failed`, `interrupted`, `cut off` or `not started`."""


class LoadedPhase(Protocol):
    """A resolved phase, as the hook `phase_concluded` receives it and `load_phase` returns it."""

    @property
    def id(self) -> str:
        """The number of the phase, such as 1.1."""

    @property
    def heading(self) -> str:
        """The number and the title of the phase."""

    @property
    def experiments(self) -> Sequence[ResolvedRun]:
        """Each experiment and seed, in the order of the phase's file."""

    @property
    def shared(self) -> Path:
        """The folder that the experiments of the phase share."""


class PhaseWinner(Protocol):
    """The winner of a phase."""

    @property
    def winner(self) -> str:
        """The name of the experiment that won, such as L3."""

    @property
    def because(self) -> str:
        """Why it won, as a sentence with the metrics that decided."""


class ConcludedPhase(Protocol):
    """A phase whose experiments were compared: all of them may be finished, or only some."""

    @property
    def phase(self) -> LoadedPhase:
        """The resolved phase."""

    @property
    def experiments(self) -> Collection[ExperimentState]:
        """Each experiment and seed, as far as it has come."""

    @property
    def winner(self) -> PhaseWinner | None:
        """The winner; None where none is declared yet."""

    @property
    def changed(self) -> bool:
        """Whether anything differs from the last time: False where the same winner still stands."""
