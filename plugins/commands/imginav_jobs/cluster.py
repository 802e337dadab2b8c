"""The plugin kind `cluster`: submits jobs to a scheduler and asks for their state."""

from __future__ import annotations

import shlex
import subprocess
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from attrs import field, frozen

from imginav.errors import UserError, in_one_line
from imginav.formatting import format_duration
from imginav.plugin.cluster import BaseCluster, JobId
from imginav.plugin.validators import Check, at_least, from_to, memory_size, one_line
from imginav_jobs.wall_time import JobTime, notation_of, seconds_of_job_time

ASKED_SECONDS = 60
"""Timeout of a call to a scheduler's program."""


class _Lines(Check):
    """Accept texts without line breaks."""

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        for text in value:
            one_line(instance, attribute, text)

    def schema(self) -> dict[str, Any]:
        return {"items": {"type": "string", **one_line.schema()}}


@frozen(kw_only=True)
class JobSpec:
    """A job to submit: some experiments of a phase; several of them are a job array with an element for each."""

    name: str
    heading: str  # number and title of the phase
    phase: Path  # its TOML file
    arguments: tuple[str, ...]  # further arguments of `imginav run`, such as --set
    elements: Mapping[int, str]  # names of the runs by their number in the phase, from 1
    whole: bool  # whether these are all experiments of the phase
    folder: Path  # for logs and scripts

    @property
    def is_array(self) -> bool:
        return len(self.elements) > 1

    @property
    def script(self) -> Path:
        """The path of its script."""
        return self.folder / f"{self.name}.sh"


@frozen(kw_only=True)
class JobState:
    """The state of a job or of an array element, as its scheduler reports it."""

    status: str  # the scheduler's own word, such as PEND
    is_active: bool  # whether it is pending or running
    is_stuck: bool = False  # whether it can never start, since its dependency failed
    node: str = ""
    reason: str = ""  # why it is pending


@frozen(kw_only=True)
class Cluster(BaseCluster):
    """The scheduler that jobs are submitted to, and the resources and setup of each job."""

    has_arrays: ClassVar[bool] = True  # whether it has job arrays

    time_notations: ClassVar[tuple[str, ...]] = ()  # the scheduler's own, by their units: "hours:minutes" for 12:00

    queue: str | None = field(default=None, validator=one_line)  # queue or partition; default: the site's
    wall_time: str | None = field(default=None, validator=JobTime())  # of a job: 24h, or as the scheduler writes it
    notice: str = field(default="5m", validator=JobTime())  # before the wall time, to save and be requeued
    nodes: int = field(default=1, validator=from_to(1, 1024))  # machines per experiment
    gpus: int = field(default=1, validator=from_to(0, 64))  # per machine; 0 trains on the CPU
    gpu_type: str | None = field(default=None, validator=one_line)  # the site's name for it, such as a100; default: any
    cores: int = field(default=4, validator=from_to(1, 1024))  # CPU cores per machine
    memory: str | None = field(default=None, validator=memory_size)  # per machine, such as 32GB; default: the queue's
    project: str | None = field(default=None, validator=one_line)  # project or account to charge
    concurrency: int | None = field(default=None, validator=at_least(1))  # array elements at a time; default: all
    modules: tuple[str, ...] = field(default=(), validator=_Lines())  # loaded by `module load`, in this order
    setup: tuple[str, ...] = field(default=(), validator=_Lines())  # shell lines that run after these
    directives: tuple[str, ...] = field(default=(), validator=_Lines())  # further scheduler options, one per entry
    command: str = field(default="imginav", validator=one_line)  # command that starts imginav, after the setup

    def __attrs_post_init__(self) -> None:
        wall, notice = self.wall_seconds, self.notice_seconds
        if wall is not None and notice >= wall:
            raise ValueError(f"expected a notice shorter than wall_time = {self.wall_time!r}, found {self.notice!r}")

    @property
    def wall_seconds(self) -> int | None:
        """The wall time in seconds; None for the queue's."""
        return None if self.wall_time is None else seconds_of_job_time("wall_time", self.wall_time, self.time_notations)

    @property
    def notice_seconds(self) -> int:
        """The time between the notice and the end of the wall time, in seconds."""
        return seconds_of_job_time("notice", self.notice, self.time_notations)

    def warnings(self) -> list[str]:
        """Return what a user should know before jobs are submitted, one sentence each.

        A plugin may ask the scheduler's programs where they are installed, and must do without them elsewhere.
        """
        times = {"wall_time": (self.wall_time, self.wall_seconds), "notice": (self.notice, self.notice_seconds)}
        return [
            f"cluster.{key} = {text!r} is {notation} for this scheduler, which is {format_duration(seconds)}; write it "
            "with its units, such as 12h, if that is not what you mean"
            for key, (text, seconds) in times.items()
            if text is not None and seconds is not None and (notation := notation_of(text, self.time_notations))
        ]

    @abstractmethod
    def script(self, work: JobSpec) -> str:
        """Return the script of a job."""

    @abstractmethod
    def submission(self, work: JobSpec, after: Sequence[str]) -> list[str]:
        """Return the command that submits the script, which gets the script on stdin unless it names the file.

        The job starts when the jobs in `after` have succeeded.
        """

    @abstractmethod
    def submit(self, work: JobSpec, after: Sequence[str]) -> str:
        """Submit the script and return the job's id; raises UserError if the scheduler rejects it."""

    @abstractmethod
    def states(self, jobs: Sequence[str]) -> Mapping[JobId, JobState]:
        """Return the states of jobs, and of each element of the arrays among them.

        Jobs that the scheduler no longer knows are missing. Raises UserError if it does not answer.
        """

    @abstractmethod
    def cancel(self, places: Sequence[JobId]) -> None:
        """Cancel jobs or array elements.

        Raises UserError if the scheduler cannot cancel some of them, such as one that has ended; the others are
        cancelled.
        """

    @abstractmethod
    def log(self, folder: Path, place: JobId) -> Path:
        """Return the path of the log of a job or an array element, in the folder of its `JobSpec`."""


def ask(command: Sequence[str], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a scheduler's program, whatever its exit status; raises UserError if it is missing or times out."""
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
    """Return the output of a scheduler's program; raises UserError with its error message and a remedy if it fails."""
    done = ask(command, stdin)
    if done.returncode:
        said = in_one_line(" ".join((done.stderr or done.stdout).split()))[:500]
        raise UserError(f"{shlex.join(command)} was refused: {said or f'status {done.returncode}'}; {remedy}")
    return done.stdout


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as schedulers write them: 1-3,5."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
