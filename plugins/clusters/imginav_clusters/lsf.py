"""IBM Spectrum LSF 10.1: bsub, bjobs, bkill.

Written by its command reference (bsub, bjobs, bkill, blaunch) and the chapters on job requeue and job arrays of its
administrator's guide.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from imginav import Cluster, JobId, JobSpec, JobState, UserError
from imginav.plugin import MEMORY_UNITS, answer, ask, bytes_of, one_line, ranges, seconds_of
from imginav_clusters import shell

ACTIVE = ("PEND", "PROV", "PSUSP", "RUN", "USUSP", "SSUSP", "WAIT", "UNKWN")

NEVER = re.compile(r"dependency condition (?:invalid or )?never satisfied|Dependency condition invalid", re.IGNORECASE)

FIELDS = ("jobid", "jobindex", "stat", "exec_host", "pend_reason")


@frozen(kw_only=True)
class LSF(Cluster):
    """IBM Spectrum LSF: arrays, dependences, requeue before the wall time is up."""

    memory_unit: Literal["written", "KB", "MB", "GB", "TB"] = "written"  # of bare numbers, as LSF_UNIT_FOR_LIMITS says;
    # written: the unit stands behind each number
    memory_per: Literal["host", "core"] = "host"  # what the site takes -M and rusage[mem=] for
    gpu_options: str | None = field(default=None, validator=one_line)  # further parts of -gpu, such as j_exclusive=yes

    def script(self, work: JobSpec) -> str:
        name, log = (f"{work.name}[{ranges(list(work.elements))}]", "%J_%I") if work.is_array else (work.name, "%J")
        limit = f"%{self.concurrency}" if work.is_array and self.concurrency else ""
        span = f"span[ptile={self.cores}]" if self.nodes > 1 else "span[hosts=1]"
        directives = [
            f'-J "{name}{limit}"',
            *([f"-q {self.queue}"] if self.queue else []),
            *([f"-P {self.project}"] if self.project else []),
            f"-n {self.cores * self.nodes}",
            f'-R "{span}"',
            *([f'-R "rusage[mem={self._memory}]"', f"-M {self._memory}"] if self.memory else []),
            *([f'-gpu "{self._gpu}"'] if self.gpus else []),
            *([f"-W {_minutes(self.wall_time)}", f"-wt {_minutes(self.notice)}", "-wa USR2"] if self.wall_time else []),
            f'-Q "{shell.REQUEUE}"',
            "-r",
            f"-o {shell.quoted(f'{work.folder}/{log}.lsf.log')}",
            *self.directives,
        ]
        own_log = f"{work.folder}/{'${LSB_JOBID}_$LSB_JOBINDEX' if work.is_array else '$LSB_JOBID'}.log"
        lines = [
            *shell.heading(work, "BSUB", directives, "bsub < FILE"),
            "# LSF itself brings the output when a job has ended, and drops that of one which is queued again.",
            f'mkdir -p {shell.quoted(str(work.folder))} && exec >> "{own_log}" 2>&1',
            "",
            *shell.setting_up(self),
            *self._run(work),
            "",
            f"# A run that has left (status {shell.REQUEUE}) is queued again, as -Q says; one that bkill ended is not.",
            f'[ -z "$cancelled" ] || status={shell.CANCELLED}',
            "exit $status",
        ]
        return "\n".join(lines) + "\n"

    def _run(self, work: JobSpec) -> list[str]:
        if self.nodes == 1:
            return [f"{shell.run_line(self, work)} &", *shell.waiting("USR2")]
        meeting = f'--nodes {self.nodes} --rendezvous "$first:{shell.port("LSB_JOBID")}"'
        return [
            "# This script runs on the first machine of the job; blaunch starts the same command on the others.",
            'first=$(head -n 1 "$LSB_DJOB_HOSTFILE")',
            'others=$(grep -vx "$first" "$LSB_DJOB_HOSTFILE" | sort -u | paste -sd " ")',
            f"train=({shell.run_line(self, work, meeting)})",
            '(trap "" USR2; exec blaunch -z "$others" "${train[@]}") &',
            '"${train[@]}" &',
            *shell.waiting("USR2"),
            "wait  # for the other machines: the process that writes the files may be on one of them",
        ]

    @property
    def _gpu(self) -> str:
        parts = [f"num={self.gpus}", f"gmodel={self.gpu_type}" if self.gpu_type else "", self.gpu_options]
        return ":".join(filter(None, parts))

    @property
    def _memory(self) -> str:
        """The memory as -M and rusage[mem=] take it here."""
        size = math.ceil(bytes_of(self.memory or "") / (self.cores if self.memory_per == "core" else 1))
        if self.memory_unit != "written":
            return str(math.ceil(size / MEMORY_UNITS[self.memory_unit]))
        unit = next(unit for unit in ("TB", "GB", "MB", "KB") if size % MEMORY_UNITS[unit] == 0 or unit == "KB")
        return f"{math.ceil(size / MEMORY_UNITS[unit])}{unit}"

    def submission(self, work: JobSpec, after: Sequence[str]) -> list[str]:
        return ["bsub", *(["-w", " && ".join(f"done({job})" for job in after)] if after else [])]

    def submit(self, work: JobSpec, after: Sequence[str]) -> str:
        said = answer(self.submission(work, after), stdin=work.script.read_text())
        if not (match := re.search(r"Job <(\d+)> is submitted", said)):
            raise UserError(f"bsub did not say which job it has made, but {said.strip()!r}; look by bjobs")
        return match[1]

    def states(self, jobs: Sequence[str]) -> Mapping[JobId, JobState]:
        if not jobs:
            return {}
        command = ["bjobs", "-a", "-json", "-o", " ".join(FIELDS), *jobs]
        done = ask(command)
        try:
            records = json.loads(done.stdout)["RECORDS"]
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{shlex.join(command)} did not answer as LSF 10.1 does: {(done.stderr or done.stdout).strip()[:300]!r}"
            ) from None
        return dict(_state(record) for record in records if "ERROR" not in record)

    def cancel(self, places: Sequence[JobId]) -> None:
        answer(["bkill", *(place.name for place in places)], remedy=shell.CANCEL_REMEDY)

    def log(self, folder: Path, place: JobId) -> Path:
        return folder / f"{place.name.replace('[', '_').removesuffix(']')}.log"

    @classmethod
    def job_of(cls, environment: Mapping[str, str]) -> JobId | None:
        job, index = environment.get("LSB_JOBID", ""), environment.get("LSB_JOBINDEX", "0")
        return JobId(job=job, index=_index(index)) if job.isdigit() else None


def _state(record: Mapping[str, str]) -> tuple[JobId, JobState]:
    # Of an array's element, some versions say its number in the id as well: 123[2].
    job, index = record["JOBID"].partition("[")[0], record.get("JOBINDEX", "0")
    reason = " ".join(record.get("PEND_REASON", "").split())
    word = record["STAT"]
    hosts = dict.fromkeys(re.sub(r"^\d+\*", "", host) for host in record.get("EXEC_HOST", "").split(":") if host)
    return JobId(job=job, index=_index(index)), JobState(
        status=word,
        is_active=word in ACTIVE,
        is_stuck=word == "PEND" and bool(NEVER.search(reason)),
        node=" ".join(hosts),
        reason=reason,
    )


def _index(text: str) -> int | None:
    """Return an element's number; LSF says 0 for a job that is in no array."""
    return int(text) or None if text.isdigit() else None


def _minutes(duration: str | None) -> str:
    minutes = max(1, seconds_of(duration or "") // 60)
    return f"{minutes // 60}:{minutes % 60:02}" if minutes >= 60 else str(minutes)
