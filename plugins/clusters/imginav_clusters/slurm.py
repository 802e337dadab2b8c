"""Slurm: sbatch, squeue, scancel, scontrol."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from attrs import frozen

from imginav import Cluster, JobId, JobSpec, JobState
from imginav.plugin import answer, bytes_of, ranges
from imginav_clusters import shell

ACTIVE = (
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_HOLD"),
    *("REQUEUE_FED", "RESIZING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT"),
)

NEVER = "DependencyNeverSatisfied"

ARRAY_JOB, INDEX, STATE, NODES, REASON = "%F", "%K", "%T", "%N", "%r"
"""What squeue prints: of a job in no array, its own id and N/A."""


@frozen(kw_only=True)
class Slurm(Cluster):
    """Slurm: arrays, dependences, requeue before the wall time is up."""

    time_notations: ClassVar[tuple[str, ...]] = (
        *("minutes:seconds", "hours:minutes:seconds"),
        *("days-hours", "days-hours:minutes", "days-hours:minutes:seconds"),
    )

    def script(self, work: JobSpec) -> str:
        limit = f"%{self.concurrency}" if self.concurrency else ""
        log = "%A_%a" if work.is_array else "%j"
        directives = [
            f"--job-name={work.name}",
            *([f"--array={ranges(list(work.elements))}{limit}"] if work.is_array else []),
            *([f"--partition={self.queue}"] if self.queue else []),
            *([f"--account={self.project}"] if self.project else []),
            f"--nodes={self.nodes}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={self.cores}",
            *([f"--mem={bytes_of(self.memory) // 2**20}M"] if self.memory else []),
            *([f"--gres=gpu:{f'{self.gpu_type}:' if self.gpu_type else ''}{self.gpus}"] if self.gpus else []),
            *([f"--time={shell.clock(self.wall_seconds)}"] if self.wall_seconds else []),
            *([f"--signal=B:USR1@{self.notice_seconds}"] if self.wall_seconds else []),
            "--requeue",
            "--open-mode=append",
            f"--output={shell.quoted(f'{work.folder}/{log}.log')}",
            *self.directives,
        ]
        submission = f"mkdir -p {shell.quoted(str(work.folder))} && sbatch FILE"
        lines = [
            *shell.heading(work, "SBATCH", directives, submission),
            *shell.setting_up(self),
            *self._run(work),
            "",
            f"# A run that has left (status {shell.REQUEUE}) is queued again; one that scancel has ended is not.",
            f'if [ $status -eq {shell.REQUEUE} ] && [ -z "$cancelled" ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
            "exit $status",
        ]
        return "\n".join(lines) + "\n"

    def _run(self, work: JobSpec) -> list[str]:
        if self.nodes == 1:
            return [f"{shell.run_line(self, work)} &", *shell.waiting("USR1")]
        meeting = f'--nodes {self.nodes} --rendezvous "$first:{shell.port("SLURM_JOB_ID")}"'
        return [
            "# srun starts the command on each machine, and hands on signals; they meet on the first one.",
            'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            f"train=({shell.run_line(self, work, meeting)})",
            # Since Slurm 22.05, srun does not ask for the cores of the job by itself.
            'srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" "${train[@]}" &',
            *shell.waiting("USR1"),
        ]

    def submission(self, work: JobSpec, after: Sequence[str]) -> list[str]:
        dependency = [f"--dependency=afterok:{':'.join(after)}"] if after else []
        return ["sbatch", "--parsable", *dependency, str(work.script)]

    def submit(self, work: JobSpec, after: Sequence[str]) -> str:
        return answer(self.submission(work, after)).strip().partition(";")[0]  # what follows is a cluster's name

    def states(self, jobs: Sequence[str]) -> Mapping[JobId, JobState]:
        if not jobs:
            return {}
        # Asked for one that it has forgotten, squeue refuses to speak of the others.
        shown = "|".join((ARRAY_JOB, INDEX, STATE, NODES, REASON))
        lines = answer(["squeue", "--noheader", "--array", "--states=all", "--me", f"--format={shown}"]).splitlines()
        known = (_state(line) for line in lines if line.count("|") == shown.count("|"))
        return {place: state for place, state in known if place.job in jobs}

    def cancel(self, places: Sequence[JobId]) -> None:
        answer(["scancel", *map(_name, places)], remedy=shell.CANCEL_REMEDY)

    def log(self, folder: Path, place: JobId) -> Path:
        return folder / f"{_name(place)}.log"

    @classmethod
    def job_of(cls, environment: Mapping[str, str]) -> JobId | None:
        job = environment.get("SLURM_ARRAY_JOB_ID") or environment.get("SLURM_JOB_ID", "")
        index = environment.get("SLURM_ARRAY_TASK_ID", "")
        return JobId(job=job, index=int(index) if index.isdigit() else None) if job.isdigit() else None


def _state(line: str) -> tuple[JobId, JobState]:
    job, index, word, nodes, reason = (part.strip() for part in line.split("|"))
    return JobId(job=job, index=int(index) if index.isdigit() else None), JobState(
        status=word,
        is_active=word in ACTIVE,
        is_stuck=reason == NEVER,
        node=nodes,
        reason="" if reason == "None" else re.sub(r"[()]", "", reason),
    )


def _name(place: JobId) -> str:
    return place.job if place.index is None else f"{place.job}_{place.index}"
