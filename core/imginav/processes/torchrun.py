"""An experiment in several processes of this machine, or of several: torchrun starts them, and how they end is told.

torchrun hands nothing on but the exit status 1, and ends what is left of a run half a minute after a signal. So this
process takes the signals and asks the run to leave by itself, and the run says in a file why it has ended.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from attrs import frozen
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from imginav.errors import UserError
from imginav.exit_status import REQUEUE
from imginav.processes.children import Ending, describe_exit
from imginav.processes.distributed import World
from imginav.processes.launcher import LAUNCHER, Launcher
from imginav.processes.stop_request import Interrupted, StopRequest

POLL_SECONDS = 0.2

STARTING_SECONDS = 60.0
"""For how long processes that were asked to leave are waited for while none of them has come into being."""

MEETING_SECONDS = 1800
"""For how long the processes of several machines wait for each other: those of a job may start one after the other."""

SHUTDOWN_SECONDS = "600"
"""That torchrun waits for the processes that are left when one has ended: the first one may still be saving."""


@frozen(kw_only=True)
class Launch:
    """In how many processes an experiment is trained, and how these find each other."""

    gpus: int = 1  # processes on this machine, each with a GPU of its own
    nodes: int = 1  # machines
    rendezvous: str = ""  # HOST:PORT of one of several machines

    def __attrs_post_init__(self) -> None:
        if self.nodes > 1 and not self.rendezvous:
            raise UserError(f"--nodes {self.nodes}: takes --rendezvous HOST:PORT, with one of these machines for HOST")
        if self.rendezvous and self.nodes == 1:
            raise UserError(f"--rendezvous {self.rendezvous}: is for several machines; say how many by --nodes")

    @property
    def is_needed(self) -> bool:
        """Whether there are several processes."""
        return self.gpus * self.nodes > 1

    def check(self, world: World, device: str) -> None:
        """Raise UserError where torchrun has started processes already, or this machine has not so many GPUs."""
        if self.is_needed and world.size > 1:
            raise UserError(f"--gpus {self.gpus}: torchrun has started {world.size} processes already; leave it out")
        there = torch.cuda.device_count()
        if self.is_needed and device != "cpu" and self.gpus > there:
            raise UserError(
                f"--gpus {self.gpus}: this machine has {there or 'none'}; ask for fewer, or try it out on the CPU with "
                "--set machine.device=cpu"
            )


def launch(how: Launch, arguments: Sequence[str], stop_request: StopRequest, *, concludes: bool) -> None:
    """Give `imginav` these arguments in several processes, and wait for their end.

    Asked to leave, it asks them. Raises UserError and Interrupted as a single process would.
    """
    with tempfile.TemporaryDirectory(prefix="imginav-") as folder:
        launcher = Launcher(process=os.getpid(), began=stop_request.began, folder=Path(folder), concludes=concludes)
        agent = Agent(how, arguments)
        with _environment(launcher, how), stop_request.deferred():
            agent.start()
            _await(agent, launcher, stop_request)
        if agent.error is not None:
            error = _why(agent.error, launcher)
            # The signal that came from outside is another one than that by which the processes were asked.
            raise Interrupted(stop_request.reason or str(error)) if isinstance(error, Interrupted) else error


class Agent(threading.Thread):
    """Runs torchrun's agent beside the main thread, which goes on to hear signals."""

    def __init__(self, launch: Launch, arguments: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self._launch = launch
        self._arguments = arguments

    def run(self) -> None:
        try:
            elastic_launch(_config(self._launch), sys.executable)("-m", "imginav", *self._arguments)
        except Exception as error:  # noqa: BLE001  # it is raised in the main thread
            self.error = error


def _await(agent: Agent, launcher: Launcher, stop_request: StopRequest) -> None:
    """Wait until the run has ended; where this process is asked to leave, ask the run's processes, once each."""
    asked: set[int] = set()
    until = math.inf
    while agent.is_alive():
        agent.join(POLL_SECONDS)
        if not stop_request.reason:
            continue
        until = min(until, time.monotonic() + STARTING_SECONDS)
        for process in launcher.processes() - asked:
            asked.add(process)
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        if not asked and time.monotonic() > until:
            raise Interrupted(stop_request.reason)  # it still waits for other machines; nothing has begun


def _config(launch: Launch) -> LaunchConfig:
    several = launch.nodes > 1
    return LaunchConfig(
        min_nodes=launch.nodes,
        max_nodes=launch.nodes,
        nproc_per_node=launch.gpus,
        run_id="imginav" if several else uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=launch.rendezvous or "localhost:0",
        rdzv_configs={"timeout": MEETING_SECONDS},
        local_addr=None if several else "localhost",
        max_restarts=0,
    )


@contextmanager
def _environment(launcher: Launcher, launch: Launch) -> Iterator[None]:
    """Set what the processes are told, for as long as they run."""
    cores = len(os.sched_getaffinity(0))
    told = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // launch.gpus))),
        **os.environ,
        LAUNCHER: launcher.to_text(),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": SHUTDOWN_SECONDS,
    }
    before = dict(os.environ)
    os.environ.update(told)
    logging.disable(logging.CRITICAL)  # what torchrun logs of an end that is told in a sentence
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _why(error: Exception, launcher: Launcher) -> BaseException:
    """Return why a run has ended, as what is raised for it."""
    if not isinstance(error, ChildFailedError):
        reason = " ".join(str(error).split())[:300]
        return UserError(f"the processes of the run could not be started ({type(error).__name__}: {reason})")
    rank, failure = error.get_first_failure()
    by_signal = failure.exitcode < 0 and failure.exitcode != -signal.SIGALRM  # by which a process ends itself
    ending = Ending.reported(launcher.folder)
    # A run that is saved resumes, whatever ended its processes after that.
    if ending is not None and (ending.status == REQUEUE or not by_signal):
        return ending.error()
    remedy = "; give the same command again" if by_signal else ""
    return UserError(f"process {rank} of the run {describe_exit(failure.exitcode)}{remedy}")
