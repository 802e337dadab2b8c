"""The plugin kind `cluster`: what a scheduler is told of a job, and what it tells of one."""

from __future__ import annotations

import shlex
import subprocess
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from attrs import field, frozen

from imginav.errors import UserError, in_one_line
from imginav.plugin.cluster import BaseCluster, JobId
from imginav.plugin.validators import Check, at_least, duration, from_to, memory_size, one_line, seconds_of

ASKED_SECONDS = 60
"""For how long a scheduler may take to answer."""


class _Lines(Check):
    """Accept texts that stand in a line each."""

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        for text in value:
            one_line(instance, attribute, text)

    def schema(self) -> dict[str, Any]:
        return {"items": {"type": "string", **one_line.schema()}}


@frozen(kw_only=True)
class JobSpec:
    """What a job is to do: some experiments of a phase, each as an element of an array where there are several."""

    name: str  # of the job
    heading: str  # the phase for people
    phase: Path  # its file
    arguments: tuple[str, ...]  # of `imginav run`, beside the phase, that choose how it is loaded
    elements: Mapping[int, str]  # the names of the runs by their number in the phase, from 1 on
    whole: bool  # whether these are all experiments of the phase
    folder: Path  # for logs and scripts

    @property
    def is_array(self) -> bool:
        return len(self.elements) > 1

    @property
    def script(self) -> Path:
        """Where its script lies."""
        return self.folder / f"{self.name}.sh"


@frozen(kw_only=True)
class JobState:
    """What a scheduler says of a job, or of an element of it."""

    status: str  # in the scheduler's own word
    is_active: bool  # whether it waits or runs
    is_stuck: bool = False  # whether it waits for what can no longer come
    node: str = ""
    reason: str = ""  # why it waits, for people


@frozen(kw_only=True)
class Cluster(BaseCluster):
    """Where jobs are submitted to: what one of them is given, and what is done in it before imginav runs."""

    has_arrays: ClassVar[bool] = True  # whether each experiment of a job is an element with a number of its own

    queue: str | None = field(default=None, validator=one_line)  # queue or partition; none: the site's own choice
    wall_time: str | None = field(default=None, validator=duration)  # of a job, such as 24h; none: the queue's
    notice: str = field(default="5m", validator=duration)  # before the wall time, to save, leave and be queued again
    nodes: int = field(default=1, validator=from_to(1, 1024))  # machines of an experiment
    gpus: int = field(default=1, validator=from_to(0, 64))  # on each of these; 0: it is computed on the CPU
    gpu_type: str | None = field(default=None, validator=one_line)  # as the site calls it, such as a100; none: any
    cores: int = field(default=4, validator=from_to(1, 1024))  # of the CPU on each of these
    memory: str | None = field(default=None, validator=memory_size)  # on each of these, such as 32GB; none: the queue's
    project: str | None = field(default=None, validator=one_line)  # project or account that is charged
    concurrency: int | None = field(default=None, validator=at_least(1))  # elements of an array at a time; none: all
    modules: tuple[str, ...] = field(default=(), validator=_Lines())  # for `module load`, in their order
    setup: tuple[str, ...] = field(default=(), validator=_Lines())  # lines of shell after these
    directives: tuple[str, ...] = field(default=(), validator=_Lines())  # further options of the scheduler, one each
    command: str = field(default="imginav", validator=one_line)  # by which a job calls imginav, after its setup

    def __attrs_post_init__(self) -> None:
        if self.wall_time is not None and seconds_of(self.notice) >= seconds_of(self.wall_time):
            raise ValueError(f"expected a notice shorter than wall_time = {self.wall_time!r}, found {self.notice!r}")

    @abstractmethod
    def script(self, work: JobSpec) -> str:
        """Return the script of a job, for people to read, keep and change."""

    @abstractmethod
    def submission(self, work: JobSpec, after: Sequence[str]) -> list[str]:
        """Return the command that submits the script, which it reads from its input where it does not name it.

        The job starts when those in `after` have ended well.
        """

    @abstractmethod
    def submit(self, work: JobSpec, after: Sequence[str]) -> str:
        """Submit the script, and return the job's id; raises UserError where the scheduler refuses it."""

    @abstractmethod
    def states(self, jobs: Sequence[str]) -> Mapping[JobId, JobState]:
        """Return what is known of some jobs, and of each element of the arrays among them.

        One that the scheduler has forgotten is left out. Raises UserError where it does not answer.
        """

    @abstractmethod
    def cancel(self, places: Sequence[JobId]) -> None:
        """Cancel jobs or elements of arrays.

        Raises UserError if the scheduler refuses some of them, such as one that has ended; the others are cancelled.
        """

    @abstractmethod
    def log(self, folder: Path, place: JobId) -> Path:
        """Return the file in a work's folder that a job or an element writes its lines to."""


def ask(command: Sequence[str], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Call a scheduler's program, whatever its exit status; raises UserError where it is not there, or hangs."""
    try:
        return subprocess.run(  # noqa: S603  # the programs of schedulers, with arguments of their own
            list(command), input=stdin, capture_output=True, text=True, timeout=ASKED_SECONDS, check=False
        )
    except FileNotFoundError:
        raise UserError(
            f"{command[0]} cannot be found on this machine; give the command where jobs are submitted, or set "
            "cluster.type to the scheduler that is there"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{command[0]} does not answer ({in_one_line(str(error))}); try it again later") from None


def answer(command: Sequence[str], stdin: str | None = None, *, remedy: str = "change [cluster]") -> str:
    """Return what a scheduler's program prints; raises UserError with its words and a remedy if it refuses."""
    done = ask(command, stdin)
    if done.returncode:
        said = in_one_line(" ".join((done.stderr or done.stdout).split()))[:500]
        raise UserError(f"{shlex.join(command)} was refused: {said or f'status {done.returncode}'}; {remedy}")
    return done.stdout


def ranges(numbers: Sequence[int]) -> str:
    """Return rising numbers as schedulers write them: 1-3,5."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
