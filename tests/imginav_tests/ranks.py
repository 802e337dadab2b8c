"""Several processes that train one run together, as torchrun would have started them, without seconds for each of them.

They come from a process that has imported everything already.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch._dynamo  # what torch and metrics import late, once for all processes
import torchmetrics  # noqa: F401
from attrs import frozen
from torch import nn
from torch.distributed import TCPStore

from imginav import Callback, Encoder, Head, LayoutSource, UserError, hookimpl
from imginav.data.batches import layouts_in
from imginav.data.loader import Data
from imginav.files import write_text
from imginav.manifest.loading import load
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.checkpoint import Checkpoint
from imginav.plugin.components import Sample
from imginav.plugin.data_spec import DataSpec
from imginav.plugin.registry import Registry, installed
from imginav.processes import distributed
from imginav.processes.stop_request import Interrupted, StopRequest
from imginav.runs import experiment
from imginav.runs.records import RunRecord
from imginav.training.trainer import Trainer
from imginav_datasets import Procedural
from imginav_tests import tiny

PHASE = tiny.changed(
    tiny.PHASE,
    """
phase = { id = "9", experiment = "shared", group = "shares" }
data = { type = "procedural", count = 28 }
losses.segmentation = false

[train]
batch_size = 5
optimizer = { type = "sgd", learning_rate = 0.05, weight_decay = 0.1 }
""",
)
# As text, since tests replace single lines of it.
PHASE += """
[callbacks]
checkpoint = {}
ema = {}
early_stopping = { patience = 9 }
metrics_csv = {}

[evaluation]
latent_layouts = 4
sampled_layouts = 2

[machine]
device = "cpu"
precision = "fp32"
cache = false
"""
"""21 layouts to train on in batches of five, so that the last one has less rows than two processes; 7 validate."""


@frozen(kw_only=True)
class Acting(Callback):
    """Does something in one of the processes after a step."""

    rank: int
    step: int
    act: str  # leave, record slowly, save slowly, die, stop, fail, break, draw

    def build(self) -> object:
        return Actor(self)


class Actor:
    def __init__(self, config: Acting) -> None:
        self._config = config

    @hookimpl
    def gradients_ready(self, trainer: Trainer) -> None:
        if self._config.act == "draw":  # what plugins draw from, each process for itself
            for parameter in trainer.model.parameters():
                if parameter.grad is not None:
                    parameter.grad += trainer.world.broadcast(torch.rand(()).item())

    @hookimpl
    def step_finished(self, trainer: Trainer) -> None:
        if self._config.act == "save slowly":
            distributed.Processes.wait_for_others = lambda world: None  # type: ignore[method-assign]
        if (trainer.world.rank, trainer.step) != (self._config.rank, self._config.step):
            return
        if self._config.act in ("leave", "record slowly", "save slowly"):
            slow = {"record slowly": RunRecord, "save slowly": Checkpoint}.get(self._config.act)
            if slow is not None:
                _let_save_slowly(slow)
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._config.act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._config.act == "stop":
            trainer.stop("one of them has had enough")
        elif self._config.act == "fail":
            raise UserError("it fails; mend it")
        elif self._config.act == "break":
            raise ZeroDivisionError("division by zero")


def _let_save_slowly(written: Any) -> None:
    save = written.save

    def slowly(*arguments: Any, **named: Any) -> None:
        time.sleep(1.5)
        save(*arguments, **named)

    written.save = slowly


@frozen(kw_only=True)
class Torn(Procedural):
    """Layouts of which some cannot be read."""

    torn: tuple[int, ...] = ()

    def open(self) -> LayoutSource:
        source = super().open()
        read = source.read

        def reading(index: int) -> Sample:
            if index in self.torn:
                raise UserError(f"layout {index} is torn; mend it")
            return read(index)

        source.read = reading  # type: ignore[method-assign]
        return source


@frozen(kw_only=True)
class Normalising(Encoder):
    """Has buffers that follow the batches which it sees."""

    def build(self) -> nn.Module:
        convolutions = [
            nn.Conv2d(3, 8, 4, 2, 1),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Conv2d(8, self.latent_channels, 4, 2, 1),
        ]
        return nn.Sequential(*convolutions)


class Coming(nn.Module):
    """Has a part that nothing reaches before it is trained."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.always, self.later = nn.Conv2d(in_channels, 3, 1), nn.Conv2d(in_channels, 3, 1)
        self.calls = 0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.always(features) + (self.later(features) if self.calls > 2 else 0.0)


@frozen(kw_only=True)
class ComingHead(Head):
    """Gets a part that nothing has reached before."""

    def build(self, in_channels: int, spec: DataSpec, patch: int) -> nn.Module:
        return Coming(in_channels)


def registry() -> Registry:
    """Return the installed components, and those above."""
    known = installed()
    known.add("callback", "acting", Acting)
    known.add("dataset", "torn", Torn)
    known.add("encoder", "normalising", Normalising)
    known.add("head", "coming", ComingHead)
    return known


REGISTRY = registry()


def resolve(folder: Path, *settings: str) -> ResolvedManifest:
    """Resolve the phase above in a folder, with settings over it."""
    path = folder / "shared.toml"
    if not path.exists():
        write_text(path, PHASE)  # whole at once: other processes read it
    roots = [f"output.{root}={str(folder)!r}" for root in ("experiments", "shared")]
    return load(path, REGISTRY, settings=[*roots, *settings])


def train(
    folder: Path, settings: tuple[str, ...], evaluated: bool = False, own: Mapping[int, tuple[str, ...]] | None = None
) -> dict[str, Any]:
    """Train as one process of several, or alone; return what it knows in the end.

    `own` are settings that single processes have beside those of all, by rank. Unless the run is to be `evaluated`, it
    ends with its training.
    """
    known: dict[str, Any] = {"lines": []}
    validate = Trainer.validate

    def validating(trainer: Trainer) -> dict[str, float]:
        known.update(validated=validate(trainer), history=trainer.history, callbacks=list(trainer.hooks.callbacks))
        known["buffers"] = {name: buffer.clone().tolist() for name, buffer in trainer.model.named_buffers()}
        known["weights"] = [parameter.detach().double().sum().item() for parameter in trainer.model.parameters()]
        validated: dict[str, float] = known["validated"]
        return validated

    batches = Data.validation_batches

    def counting(data: Data) -> Iterator[dict[str, torch.Tensor]]:
        known["sizes"] = []
        for batch in batches(data):
            known["sizes"].append(layouts_in(batch))
            yield batch

    def finish(run: experiment.FinishedRun, _: Any) -> Any:
        return SimpleNamespace(metrics={}, notes=(*run.trainer.notes, *run.trainer.data.left_out))

    Trainer.validate = validating  # type: ignore[method-assign]
    Data.validation_batches = counting  # type: ignore[method-assign]
    if not evaluated:
        experiment._finish = finish
    stop_request = StopRequest()
    with stop_request.install_handlers(), distributed.joined(stop_request) as world:
        resolved = resolve(folder, *settings, *(own or {}).get(world.rank, ()))
        if world.is_first:
            evaluation = experiment.run_experiment(
                resolved, known["lines"].append, timed=False, stop_request=stop_request, world=world
            )
            known |= {"metrics": evaluation.metrics, "notes": evaluation.notes}
        else:
            experiment.follow_experiment(resolved, world, stop_request)
    return known


@frozen
class Ended:
    """How a process ended."""

    status: int
    value: Any = None  # what its function returned
    said: str = ""  # the error that it raised
    at: float = 0.0  # when, by time.monotonic()


def in_processes(size: int, function: Callable[..., Any], *arguments: Any, timeout: float = 60) -> list[Ended]:
    """Call a function in so many processes of a run; return how each of them ended, by rank."""
    context = multiprocessing.get_context("forkserver")
    # The process that others are forked from imports nothing from where this one has looked beside.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    context.set_forkserver_preload(["imginav_tests.ranks"])
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun has one
    ends = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        context.Process(target=_be, args=(rank, size, store.port, ends[rank][1], function, arguments))
        for rank in range(size)
    ]
    for process, (_, sends) in zip(processes, ends, strict=True):
        process.start()
        sends.close()
    ended = []
    for process, (receives, _) in zip(processes, ends, strict=True):
        try:
            value, said, at = receives.recv() if receives.poll(timeout) else (None, "it hangs", 0.0)
        except EOFError:
            value, said, at = None, "", 0.0
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
        ended.append(Ended(process.exitcode or 0, value, said, at))
    return ended


def _be(rank: int, size: int, port: int, sends: Connection, function: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    told: Mapping[str, Any] = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_USE_AGENT_STORE": True,
    }
    os.environ.update({name: str(value) for name, value in told.items()})
    try:
        sends.send((function(*arguments), "", time.monotonic()))
    except SystemExit:
        sends.send((None, "", time.monotonic()))
        raise
    except (UserError, Interrupted) as error:
        sends.send((None, str(error), time.monotonic()))
        raise SystemExit(85 if isinstance(error, Interrupted) else 2) from None
