"""What the job scripts of all clusters have in common: lines of bash."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from imginav import Cluster, JobSpec

REQUEUE = 85
"""The exit status of a run that has left and goes on when its command is given again."""

CANCELLED = 143
"""The exit status of a script that was told to end."""

CANCEL_REMEDY = "imginav status shows which jobs still run"


def heading(work: JobSpec, directive: str, directives: Sequence[str], submission: str) -> list[str]:
    """Return the first lines of a script: what it is, and what the scheduler is told."""
    several = f", {len(work.elements)} experiments" if work.is_array else ""
    return [
        "#!/bin/bash",
        f"# {work.heading}{several}, as imginav submit has written it.",
        f"# Submit this file by: {submission}",
        *(f"#{directive} {line}" for line in directives),
        "",
    ]


def quoted(path: str) -> str:
    """Return a path as a directive or a line of shell takes it."""
    return f'"{path}"' if any(map(str.isspace, path)) else path


def setting_up(cluster: Cluster) -> list[str]:
    """Return the lines that make a machine ready."""
    lines = [*(f"module load {module}" for module in cluster.modules), *cluster.setup]
    return [*lines, ""] if lines else []


def run_line(cluster: Cluster, work: JobSpec, *arguments: str, chooses: bool = True) -> str:
    """Return the command that trains; the arguments stand as they are, since they may have variables of the shell.

    It `chooses` which of the phase's experiments it trains, unless the arguments do.
    """
    chosen = [] if work.whole and not work.is_array else ["--index auto" if work.is_array else f"--index {_only(work)}"]
    several = [f"--gpus {cluster.gpus}"] if cluster.gpus > 1 else []
    on_cpu = ["--set machine.device=cpu"] if cluster.gpus == 0 else []
    parts = [shlex.quote(str(work.phase)), *map(shlex.quote, work.arguments), *on_cpu, *(chosen if chooses else [])]
    return " ".join([cluster.command, "run", *parts, *several, *arguments])


def _only(work: JobSpec) -> int:
    (number,) = work.elements
    return number


def waiting(soon: str) -> list[str]:
    """Return the lines that wait for `$run` and hand signals on to it; `soon` comes before the wall time.

    bash ends a wait with each signal that it has a trap for, so it has to wait again. What is handed on is SIGUSR1,
    since srun would take SIGTERM for itself and end the run at once.
    """
    return [
        "run=$! heard=yes cancelled=",
        f"trap 'heard=yes; kill -USR1 $run' {soon}",
        "trap 'heard=yes; cancelled=yes; kill -USR1 $run' INT TERM",
        'while [ "$heard" ]; do heard=; wait $run; status=$?; done',
    ]


def timer(cluster: Cluster, soon: str) -> list[str]:
    """Return the lines that send the script a signal, `notice` before the wall time, for a scheduler that sends none.

    They come before the command that trains. The script ends what waits by `kill $timer`, when the run has ended.
    """
    if cluster.wall_seconds is None:
        return []
    return [
        "# Nothing else signals a job before its wall time.",
        f'{{ sleep {cluster.wall_seconds - cluster.notice_seconds} & trap "kill $!" TERM; '
        f"wait $! && kill -{soon} $$; }} &",
        "timer=$!",
    ]


def clock(seconds: int) -> str:
    """Return a time as hours:minutes:seconds."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def port(job: str) -> str:
    """Return the port at which the machines of a job meet, as the shell works it out of its id."""
    return f"$((20000 + {job} % 10000))"
