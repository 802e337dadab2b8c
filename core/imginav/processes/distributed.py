"""Several processes that train one run together, under torchrun: who they are, and what they tell each other.

The first of them alone writes files and speaks to people. Gradients, and what is measured, are brought together by
torch.distributed: on GPUs by NCCL, and by gloo whatever lies in the memory of the machine.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn  # imported later, as DistributedDataParallel does, it would hold the group for good
from attrs import asdict, frozen
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from imginav.errors import UserError, refuse_old_name
from imginav.exit_status import FAILED, REQUEUE
from imginav.processes.children import Ending, describe_exit
from imginav.processes.launcher import Launcher, are_several
from imginav.processes.stop_request import Interrupted, StopRequest, ignore_signals
from imginav.verbosity import shows_traceback, unless_quiet

T = TypeVar("T")

MEETING = timedelta(minutes=30)
"""In which all processes have to come: those of several machines may start one after the other."""

PATIENCE = timedelta(days=7)
"""For how long processes wait for the first one, which may wait for a disk; one that is gone is noticed at once."""

ANNOUNCED_SECONDS = 3.0
"""For how long it is looked why another process is gone: it has said so, unless it was ended from outside."""

FAREWELL_SECONDS = 20
"""For how long a process that has nothing left to do waits for others, or for torch to let it end."""


class PeerGone(RuntimeError):  # noqa: N818  # it is not what is wrong, but what has happened
    """Another process of the run does not answer any more."""


@frozen
class Shard:
    """The rows of a batch that one process has."""

    start: int  # how many come before them
    total: int  # of the whole batch


class World:
    """The processes of a run as one of them sees them; this one is alone."""

    rank = 0
    size = 1
    local_rank = 0  # among those on this machine
    local_size = 1
    launcher: Launcher | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks to people."""
        return self.rank == 0

    @property
    def log(self) -> Callable[[str], None]:
        """What takes lines for people."""
        return unless_quiet(print) if self.is_first else _log_nothing

    @property
    def concludes(self) -> bool:
        """Whether this process compares the experiments of a phase, and speaks of them."""
        return self.is_first and (self.launcher is None or self.launcher.concludes)

    @property
    def log_of_phase(self) -> Callable[[str], None]:
        """What takes lines about a phase."""
        return print if self.concludes else _log_nothing

    def of_batch(self, rows: int) -> slice:
        """Return which rows of a batch are this process's: in one piece, and nearly as many as each other's."""
        return slice(self.rank * rows // self.size, (self.rank + 1) * rows // self.size)

    def shard(self, rows: int) -> Shard:
        """Return where the rows that this process has got of a batch stand in it."""
        return Shard(0, rows)

    def broadcast(self, value: T) -> T:
        """Return what the first process has given."""
        return value

    def all_gather(self, value: T) -> list[T]:
        """Return what each process has given, in their order."""
        return [value]

    def any(self, reason: str) -> str:
        """Return a reason that one of the processes has, or nothing where none has."""
        return reason

    def barrier(self) -> None:
        """Wait until all processes have come here."""

    def join(self, batches: Iterable[T]) -> Iterator[T | None]:
        """Return this process's batches, and none as often as another one has more of them."""
        yield from batches

    def all_reduce(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return scalars on the device, each summed over all processes."""
        return dict(terms)

    def wrap(self, model: nn.Module, device: torch.device, unreached: Callable[[], list[Tensor]]) -> nn.Module:
        """Return the model as it is called to train: its gradients become the mean of all processes'.

        `unreached` finds the parameters that no loss reaches, such as those of a head that none reads.
        """
        return model

    def no_sync(self, network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Return the context of a part of a batch: with the last one, gradients are brought together."""
        return nullcontext()

    def align_buffers(self, model: nn.Module) -> None:
        """Give the model of each process the buffers of the first one's, such as running means."""

    def failures_named(self) -> AbstractContextManager[None]:
        """Return a context in which it is told why another process has ended the run."""
        return nullcontext()

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name):
            refuse_old_name("trainer.world", name, {"first": "broadcast", "gather": "all_gather"})
            return object.__getattribute__(self, name)


ALONE = World()


class Processes(World):
    """The processes that torchrun has started for a run."""

    def __init__(self, launcher: Launcher | None) -> None:
        """Meet the others; the environment says where, as torchrun has set it."""
        self.launcher = launcher
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self.local_size = int(os.environ["LOCAL_WORLD_SIZE"])
        store, self.rank, self.size = next(rendezvous("env://", timeout=MEETING))
        self._store = PrefixStore("imginav", store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.size, timeout=PATIENCE)

    def shard(self, rows: int) -> Shard:
        numbers = torch.zeros(self.size, dtype=torch.int64)
        numbers[self.rank] = rows
        with _asking():
            dist.all_reduce(numbers)
        return Shard(int(numbers[: self.rank].sum()), int(numbers.sum()))

    def broadcast(self, value: T) -> T:
        values = [value]
        with _asking():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def all_gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        with _asking():
            dist.all_gather_object(values, value)
        return values

    def any(self, reason: str) -> str:
        if not self.shard(int(bool(reason))).total:
            return ""
        return next(filter(None, self.all_gather(reason)))

    def barrier(self) -> None:
        self.shard(0)

    def join(self, batches: Iterable[T]) -> Iterator[T | None]:
        own = iter(batches)
        while self.shard(int((batch := next(own, None)) is not None)).total:
            yield batch

    def all_reduce(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        summed = torch.stack([term.detach().float() for term in terms.values()])
        with _asking():
            dist.all_reduce(summed)
        return dict(zip(terms, summed.unbind(), strict=True))

    def wrap(self, model: nn.Module, device: torch.device, unreached: Callable[[], list[Tensor]]) -> nn.Module:
        # Weights of 1×1 convolutions lie in memory in an order of which there are two; to copy them is next to nothing.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        left_out = unreached()
        for parameter in left_out:  # their gradients would be waited for
            parameter.requires_grad_(False)
        network = DistributedDataParallel(
            model, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True
        )
        for parameter in left_out:
            parameter.requires_grad_(True)
            parameter.register_post_accumulate_grad_hook(_refuse_gradient)  # type: ignore[no-untyped-call]  # torch leaves it so
        return network

    def no_sync(self, network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        if last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        no_sync: AbstractContextManager[None] = network.no_sync()
        return no_sync

    def align_buffers(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            with _asking():
                dist.broadcast(buffer, src=0)

    @contextmanager
    def failures_named(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # also what DistributedDataParallel raises where another process is gone
            if (ending := self._announced()) and ending.rank != self.rank:
                raise ending.error() from None
            if isinstance(error, (PeerGone, dist.DistError)) or "gloo" in str(error):
                raise UserError(
                    f"another process of the run {describe_exit(None)}; run the same command again to resume"
                ) from None
            raise

    def _announced(self) -> Ending | None:
        """Return why the run has ended, as the first process that knew has said; none: nobody has said anything."""
        until = time.monotonic() + ANNOUNCED_SECONDS
        with suppress(RuntimeError):  # the store ends with the launcher
            while time.monotonic() < until:
                if self._store.check(["ending"]):
                    return Ending(**json.loads(self._store.get("ending")))
                time.sleep(0.05)
        return None

    def announce(self, ending: Ending) -> Ending:
        """Tell the others why the run ends, unless another process has told it already; return what was told first."""
        text = json.dumps(asdict(ending))
        with suppress(RuntimeError):
            return Ending(**json.loads(self._store.compare_set("ending", "", text)))
        return ending

    def wait_for_others(self) -> None:
        """Wait a while until all have done what they had to do: torchrun ends those that are left after the first."""
        with suppress(RuntimeError):
            self._store.set(f"leaves/{self.rank}", "")
            others = [f"leaves/{rank}" for rank in range(self.size)]
            self._store.wait(others, timedelta(seconds=FAREWELL_SECONDS))


@contextmanager
def joined(stop_request: StopRequest) -> Iterator[World]:
    """Meet the other processes of a run, where torchrun has started several; what ends one of them ends all.

    One of them tells the reason: this process's own error leaves the context as it is where it is the one, and
    otherwise it is SystemExit.
    """
    if not are_several():
        yield ALONE
        return
    launcher = Launcher.of_this_process()
    if launcher is not None:
        stop_request.began = launcher.began
        launcher.meet()
    world = Processes(launcher)
    stop_request.quiet = launcher is not None or not world.is_first
    try:
        with world.failures_named():
            yield world
    except Exception as error:  # noqa: BLE001  # whatever it is, the others wait for this process
        _end(world, error)
    except Interrupted as error:
        _end(world, error)
    dist.destroy_process_group()
    # gloo's threads end with the group, which networks hold, some until they are collected. One that lets go of its
    # last tensor only while the program ends would abort it, on machines with much to do (pytorch issue 190489).
    gc.collect()


def _end(world: Processes, error: BaseException) -> None:
    """End this process because of an error, which is raised where it is this one that tells it."""
    ignore_signals()  # torchrun sends one as soon as the first process is gone
    own = Ending.of(error, rank=world.rank, host=socket.gethostname())
    told = world.announce(own)
    if own.status == REQUEUE:
        world.wait_for_others()
    if told == own and own.status != REQUEUE and shows_traceback(error):
        traceback.print_exception(error)
    # At the program's end NCCL may wait for what never comes; the system's own answer to this signal ends it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(2 * FAREWELL_SECONDS)
    if world.launcher is not None:
        told.report(world.launcher.folder)
    elif told == own and own.status != FAILED:
        raise told.error()
    raise SystemExit(told.status)


@contextmanager
def _asking() -> Iterator[None]:
    """Turn what torch raises where another process is gone into PeerGone."""
    try:
        yield
    except RuntimeError as error:
        raise PeerGone(str(error)) from error


def _refuse_gradient(_: Tensor) -> None:
    """Stop where a parameter is reached that was not: each process would move it by its own gradients."""
    raise UserError(
        "a part of the network that no loss reached has gradients now; networks whose parts come and go from step to "
        "step are trained by one process"
    )


def _log_nothing(_: str) -> None:
    pass
