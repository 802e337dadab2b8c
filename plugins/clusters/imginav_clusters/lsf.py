"""IBM Spectrum LSF 10.1 and OpenLava: bsub, bjobs, bkill.

Written by the command reference of LSF 10.1 (bsub, bjobs, bkill, blaunch) and the chapters on job requeue and job
arrays of its administrator's guide. OpenLava lacks -gpu, -wt, -wa and -Q of bsub and -json of bjobs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from attrs import field, frozen

from imginav import Cluster, JobId, JobSpec, JobState, UserError
from imginav.plugin import MEMORY_UNITS, answer, bytes_of, one_line, ranges
from imginav_clusters import shell
from imginav_clusters.lsf_site import unit_for_limits, variant_here
from imginav_clusters.lsf_states import element, json_states, table_states

MemoryUnit = Literal["KB", "MB", "GB", "TB", "written"]
"""The unit of a bare number; "written" puts the unit behind each number."""


@frozen(kw_only=True)
class LSF(Cluster):
    """IBM Spectrum LSF, OpenLava: arrays, dependences, requeue before the wall time is up."""

    time_notations: ClassVar[tuple[str, ...]] = ("hours:minutes",)

    variant: Literal["auto", "lsf10", "openlava"] = "auto"  # auto: asks bsub -V; lsf10 where there is no bsub
    rusage_unit: MemoryUnit = "MB"  # unit of bare numbers in rusage[mem=]; written: the unit stands behind each number
    memory_limit_unit: MemoryUnit | None = None  # the same for -M; default: no -M is written
    memory_per: Literal["host", "core"] = "host"  # what the site takes -M and rusage[mem=] for
    gpu_options: str | None = field(default=None, validator=one_line)  # further parts of -gpu, such as j_exclusive=yes

    def script(self, work: JobSpec) -> str:
        if self.nodes > 1 and self._is_openlava:
            raise UserError(
                f"cluster.nodes = {self.nodes}: OpenLava does not give a job the file of its hosts "
                "(LSB_DJOB_HOSTFILE); set cluster.nodes = 1"
            )
        name, log = (f"{work.name}[{ranges(list(work.elements))}]", "%J_%I") if work.is_array else (work.name, "%J")
        limit = f"%{self.concurrency}" if work.is_array and self.concurrency else ""
        span = f"span[ptile={self.cores}]" if self.nodes > 1 else "span[hosts=1]"
        directives = [
            f'-J "{name}{limit}"',
            *([f"-q {self.queue}"] if self.queue else []),
            *([f"-P {self.project}"] if self.project else []),
            f"-n {self.cores * self.nodes}",
            f'-R "{span}"',
            *([f'-R "rusage[mem={self._memory(self.rusage_unit)}]"'] if self.memory else []),
            *([f"-M {self._memory(self.memory_limit_unit)}"] if self.memory and self.memory_limit_unit else []),
            *([f'-gpu "{self._gpu}"'] if self.gpus and not self._is_openlava else []),
            *([f"-W {_minutes(self.wall_seconds)}"] if self.wall_seconds else []),
            *self._requeue_directives,
            "-r",
            f"-o {shell.quoted(f'{work.folder}/{log}.lsf.log')}",
            *self.directives,
        ]
        requeues = "its queue" if self._is_openlava else "-Q"
        timer = shell.timer(self, "USR2") if self._is_openlava else []
        own_log = f"{work.folder}/{'${LSB_JOBID}_$LSB_JOBINDEX' if work.is_array else '$LSB_JOBID'}.log"
        lines = [
            *shell.heading(work, "BSUB", directives, "bsub < FILE"),
            "# LSF itself brings the output when a job has ended, and drops that of one which is queued again.",
            f'mkdir -p {shell.quoted(str(work.folder))} && exec >> "{own_log}" 2>&1',
            "",
            *shell.setting_up(self),
            *timer,
            *self._run(work),
            *(["kill $timer 2> /dev/null"] if timer else []),
            "",
            f"# A run that has left (status {shell.REQUEUE}) is queued again, as {requeues} says; one that bkill ended "
            "is not.",
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
    def _is_openlava(self) -> bool:
        return (self.variant if self.variant != "auto" else variant_here()) == "openlava"

    @property
    def _requeue_directives(self) -> list[str]:
        if self._is_openlava:
            return []
        warning = [f"-wt {_minutes(self.notice_seconds)}", "-wa USR2"] if self.wall_seconds else []
        return [*warning, f'-Q "{shell.REQUEUE}"']

    @property
    def _gpu(self) -> str:
        parts = [f"num={self.gpus}", f"gmodel={self.gpu_type}" if self.gpu_type else "", self.gpu_options]
        return ":".join(filter(None, parts))

    def _memory(self, site_unit: MemoryUnit) -> str:
        """Return the memory as an option takes it whose bare numbers have this unit."""
        size = math.ceil(bytes_of(self.memory or "") / (self.cores if self.memory_per == "core" else 1))
        if site_unit != "written":
            return str(math.ceil(size / MEMORY_UNITS[site_unit]))
        unit = next(unit for unit in ("TB", "GB", "MB", "KB") if size % MEMORY_UNITS[unit] == 0 or unit == "KB")
        return f"{math.ceil(size / MEMORY_UNITS[unit])}{unit}"

    def warnings(self) -> list[str]:
        found = super().warnings()
        if self._is_openlava:
            found.append(
                f"OpenLava has no bsub -Q, so that a job is queued again only if its queue has REQUEUE_EXIT_VALUES = "
                f"{shell.REQUEUE}; ask for it, or look with bqueues -l"
            )
            if self.gpus and not self.directives:
                found.append(
                    f"OpenLava has no bsub -gpu, so that cluster.gpus = {self.gpus} asks the scheduler for none; ask "
                    "for them with cluster.directives, such as '-R \"rusage[ngpus=1]\"', as your site describes"
                )
        return [*found, *self._unit_warnings()] if self.memory else found

    def _unit_warnings(self) -> list[str]:
        site = unit_for_limits()
        rusage = "MB" if site in ("", "KB") else site  # LSF_UNIT_FOR_LIMITS only makes it larger
        options = [("rusage_unit", self.rusage_unit, rusage, "rusage[mem=]", "MB")]
        if self.memory_limit_unit:
            options.append(("memory_limit_unit", self.memory_limit_unit, "KB" if site == "" else site, "-M", "KB"))
        found = []
        for key, unit, right, option, default in options:
            if unit == "written" and self._is_openlava:
                found.append(
                    f"cluster.{key} = 'written', but OpenLava refuses units in {option}; set {key} = {default!r}"
                )
            elif unit != "written" and right and unit != right:
                found.append(
                    f"cluster.{key} = {unit!r}, but this site reads a bare number in {option} as {right} "
                    f"(LSF_UNIT_FOR_LIMITS is {site or 'not set'}); set {key} = {right!r}"
                )
        return found

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
        return table_states(jobs) if self._is_openlava else json_states(jobs)

    def cancel(self, places: Sequence[JobId]) -> None:
        answer(["bkill", *(place.name for place in places)], remedy=shell.CANCEL_REMEDY)

    def log(self, folder: Path, place: JobId) -> Path:
        return folder / f"{place.name.replace('[', '_').removesuffix(']')}.log"

    @classmethod
    def job_of(cls, environment: Mapping[str, str]) -> JobId | None:
        job, index = environment.get("LSB_JOBID", ""), environment.get("LSB_JOBINDEX", "0")
        return JobId(job=job, index=element(index)) if job.isdigit() else None


def _minutes(seconds: int) -> str:
    minutes = max(1, seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02}" if minutes >= 60 else str(minutes)
