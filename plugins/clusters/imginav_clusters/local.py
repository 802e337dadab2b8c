"""Jobs on this machine, which go on when the terminal is closed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from attrs import frozen

from imginav import Cluster, JobId, JobSpec, JobState
from imginav.plugin import living_process
from imginav_clusters import shell

AFTER = "IMGINAV_AFTER"
"""The environment variable with the processes that a script waits for."""

JOB = "IMGINAV_LOCAL_JOB"

DETACHED = 'nohup "$@" < /dev/null >> "$0" 2>&1 & echo $!'
"""Starts what it is given as a child of nobody here, with its lines in a file, and prints the process's number."""


@frozen(kw_only=True)
class Local(Cluster):
    """The machine itself: a process for each phase, which goes on when the terminal is closed."""

    has_arrays: ClassVar[bool] = False

    def script(self, work: JobSpec) -> str:
        lines = [
            *shell.heading(work, "", [], "bash FILE"),
            f"# After the jobs before it, which are processes: {AFTER}.",
            f'for job in ${AFTER}; do while kill -0 "$job" 2>/dev/null; do sleep 2; done; done',
            "",
            *shell.setting_up(self),
            f"export {JOB}=$$",
            f"{self._run_line(work)} &",
            *shell.waiting("USR1 USR2"),
            "exit $status",
        ]
        return "\n".join(lines) + "\n"

    def _run_line(self, work: JobSpec) -> str:
        # One command trains all of them, several at a time.
        names = () if work.whole else tuple(f"--only {shlex.quote(name)}" for name in work.elements.values())
        jobs = (f"--jobs {self.concurrency}",) if self.concurrency and work.is_array else ()
        return shell.run_line(self, work, *names, *jobs, chooses=False)

    def submission(self, work: JobSpec, after: Sequence[str]) -> list[str]:
        return ["bash", str(work.script)]

    def submit(self, work: JobSpec, after: Sequence[str]) -> str:
        work.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, AFTER: " ".join(job.partition("-")[0] for job in after)}
        beside = work.folder / f"{work.name}.log"
        started = subprocess.run(  # noqa: S603  # the script that was just written
            ["/bin/sh", "-c", DETACHED, str(beside), *self.submission(work, after)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        number = int(started.stdout)
        job = (living_process(number) or str(number)).replace(" ", "-")
        beside.rename(self.log(work.folder, JobId(job=job)))
        return job

    def states(self, jobs: Sequence[str]) -> Mapping[JobId, JobState]:
        return {
            JobId(job=job): JobState(status="runs" if alive else "ended", is_active=alive)
            for job, alive in zip(jobs, map(_is_alive, jobs), strict=True)
        }

    def cancel(self, places: Sequence[JobId]) -> None:
        for place in places:
            if _is_alive(place.job):  # otherwise its number may be another process's by now
                with suppress(ProcessLookupError):
                    os.kill(_number(place.job), signal.SIGTERM)

    def log(self, folder: Path, place: JobId) -> Path:
        return folder / f"{place.job}.log"

    @classmethod
    def job_of(cls, environment: Mapping[str, str]) -> JobId | None:
        number = environment.get(JOB, "")
        process = living_process(int(number)) if number.isdigit() else None
        return JobId(job=process.replace(" ", "-")) if process else None


def _is_alive(job: str) -> bool:
    return living_process(_number(job)) == job.replace("-", " ")


def _number(job: str) -> int:
    return int(job.partition("-")[0])
