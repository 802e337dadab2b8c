"""Several experiments on one machine, each in a process of its own.

What ends one of them (a fault, a crash, too little memory) leaves the others alone, and all that it held is given back.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch
from attrs import field, frozen

from imginav.exit_status import REQUEUE
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.plugin_faults import plugin_faults_named
from imginav.plugin.registry import installed
from imginav.plugin.validators import seconds_of
from imginav.processes.children import Ending, describe_exit, end_with_parent, reporting
from imginav.processes.stop_request import Interrupted, StopRequest, block_signals
from imginav.processes.torchrun import Launch, launch
from imginav.runs.experiment import run_experiment, run_folder
from imginav.runs.resuming import Resume
from imginav.terminal import stream_lines
from imginav.verbosity import QUIET, unless_quiet

Log = Callable[[str], None]

POLL_SECONDS = 1.0
"""After which it is looked whether all of them are asked to leave."""


@frozen
class Job:
    """One experiment in its process."""

    process: SpawnProcess  # with the name of the run
    folder: Path  # where it reports how it ended
    slot: int
    asked: threading.Event = field(factory=threading.Event)  # whether it was asked to leave


@frozen(kw_only=True)
class ProcessOptions:
    """What the experiments of a command have in common."""

    jobs: int  # at a time
    resume: Resume
    launch: Launch = field(factory=Launch)  # in how many processes each is trained
    arguments: tuple[str, ...] = ()  # of a command that loads them, beside their phase

    def arguments_for(self, experiment: ResolvedManifest) -> list[str]:
        """Return the arguments of the command that trains one of them alone."""
        only = ["--only", experiment.manifest.phase.experiment, "--resume", str(self.resume)]
        return ["run", str(experiment.source), *only, *self.arguments]

    began: float  # when the command did, by time.monotonic(), for a time limit that holds for all of them together


def run_all(
    experiments: Sequence[ResolvedManifest],
    how: ProcessOptions,
    stop_request: StopRequest,
    *,
    logs: Path,
    log: Log = print,
) -> dict[str, str]:
    """Train some experiments, several at a time; return why the failed ones did, by their run's name.

    One at a time, they write to this terminal; several write to a file of their own in `logs`. Raises Interrupted when
    all that ran have left, where they were asked to.
    """
    waiting = list(experiments)
    running: list[Job] = []
    failures: dict[str, str] = {}
    free = list(range(how.jobs))
    with stop_request.deferred(), tempfile.TemporaryDirectory(prefix="imginav-") as folder:
        while running or (waiting and not stop_request.reason):
            while waiting and free and not _is_late(stop_request, waiting[0], first=len(waiting) == len(experiments)):
                job = _start(waiting.pop(0), free.pop(0), how, Path(folder), logs=logs)
                number = len(experiments) - len(waiting)
                log(f"\n{job.process.name} starts ({number} of {len(experiments)})")
                running.append(job)
            wait([job.process.sentinel for job in running], POLL_SECONDS)
            if stop_request.reason:
                _ask(running)
            for job in [job for job in running if not job.process.is_alive()]:
                running.remove(job)
                free.append(job.slot)
                name, reason = job.process.name, _why_failed(job)
                if job.process.exitcode == REQUEUE:
                    stop_request.ask(reason)
                    log(f"{name} stopped by {reason}")
                    continue
                if reason:
                    failures[name] = reason
                log(f"{name} failed: {reason}" if reason else f"{name} is finished")
    if stop_request.reason:
        raise Interrupted(stop_request.reason)
    return failures


def _is_late(stop_request: StopRequest, experiment: ResolvedManifest, *, first: bool) -> bool:
    """Whether no other experiment is to start: the first of a command always does, or it would never get on."""
    if (limit := experiment.manifest.train.time_limit) and not first:
        stop_request.limit(seconds_of(limit))
        if stop_request.time_is_up():
            stop_request.ask("its time limit")
    return bool(stop_request.reason)


def _ask(running: Sequence[Job]) -> None:
    """Ask experiments to leave; a scheduler may have sent its signal to this process alone."""
    for job in running:
        if not job.asked.is_set():
            job.asked.set()
            job.process.terminate()


def _start(experiment: ResolvedManifest, slot: int, how: ProcessOptions, folder: Path, *, logs: Path) -> Job:
    name = experiment.manifest.phase.experiment
    log = logs / f"{name}.log" if how.jobs > 1 else None
    # A forked process could not use a GPU that this one has seen.
    process = multiprocessing.get_context("spawn").Process(
        target=_train, args=(experiment, how, log, folder / name, os.getpid()), name=name
    )
    with _own_gpus(slot, how), block_signals():
        process.start()
    return Job(process, folder / name, slot)


@contextmanager
def _own_gpus(slot: int, how: ProcessOptions) -> Iterator[None]:
    """Let a process that is started inside see its own GPUs only, where there are several for several jobs."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = shown.split(",") if shown else [str(number) for number in range(torch.cuda.device_count())]
    if how.jobs == 1 or len(gpus) < 2:
        yield
        return
    each = how.launch.gpus
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[(slot * each + number) % len(gpus)] for number in range(each))
    try:
        yield
    finally:
        if shown is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = shown


def _train(experiment: ResolvedManifest, how: ProcessOptions, log: Path | None, folder: Path, parent: int) -> None:
    """The life of an experiment's process."""
    end_with_parent(parent)
    stream_lines()
    # Loading processes start as they do in any run; spawned like this one, each would import torch anew.
    multiprocessing.set_start_method(None, force=True)
    if log is not None:
        _write_to(log)
        os.environ.pop(QUIET, None)  # it is for the terminal; a log file says all
        torch.set_num_threads(max(1, torch.get_num_threads() // how.jobs))
    stop_request = StopRequest(how.began)
    with reporting(folder), plugin_faults_named(), stop_request.install_handlers():
        if how.launch.is_needed:
            cores = len(os.sched_getaffinity(0))
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // (how.jobs * how.launch.gpus))))
            launch(how.launch, how.arguments_for(experiment), stop_request, concludes=False)
        else:
            hooks = installed().hooks
            run_experiment(
                experiment,
                unless_quiet(print),
                resume=how.resume,
                stop_request=stop_request,
                timed=how.jobs == 1,
                hooks=hooks,
            )
            hooks.run_concluded(run_folder(experiment))


def _write_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(stream, sys.stdout.fileno())
    os.dup2(stream, sys.stderr.fileno())


def _why_failed(job: Job) -> str:
    """Return why a process that has ended did not finish its experiment, or nothing if it did."""
    job.process.join()
    if not (status := job.process.exitcode):
        return ""
    ending = Ending.reported(job.folder) if status > 0 else None
    return ending.reason if ending else f"its process {describe_exit(status)}"
