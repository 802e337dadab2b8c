"""`imginav status`, `cancel` and `logs`: what has become of the jobs of a study, from schedulers and from files."""

from __future__ import annotations

import functools
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from imginav.errors import UserError
from imginav.manifest.resolved import ResolvedManifest, ResolvedPhase
from imginav.plugin.registry import Registry
from imginav.runs.experiment import run_folder
from imginav.study.phases import Options, chosen, phases_in_order, show_phases
from imginav.study.selection import recorded
from imginav.terminal import print_table
from imginav_inspect.json_output import print_json
from imginav_inspect.watch import best_so_far, progress, read_run
from imginav_jobs.job_records import RunJob, cancel, jobs_of, newest_job

Log = Callable[[str], None]

HEADINGS = ("phase", "experiment", "job", "scheduler", "run", "epoch", "best so far", "node", "log")

FOLLOWED_SECONDS = 1.0
"""Between two looks at a log that is followed."""

ASKED_SECONDS = 15.0
"""Between two questions to a scheduler whether a job whose log is followed still goes on."""


def load_as_submitted(paths: Sequence[Path], registry: Registry, options: Options, log: Log) -> list[ResolvedPhase]:
    """Load phases, those of folders in the order of their dependences.

    The --site, --set and scale that the command does not give are those that a phase's newest job was submitted with.
    """
    files = [file for path in paths for file in (phases_in_order(path) if path.is_dir() else [path])]
    phases = [options.load(file, registry) for file in files]
    submitted = {phase.id: values for phase in phases if (values := _submitted_values(phase, options))}
    of_values: dict[str, list[str]] = {}
    for name, values in submitted.items():
        of_values.setdefault(shlex.join(Options(**values).arguments), []).append(name)
    for arguments, names in of_values.items():
        log(f"using {arguments}, with which the jobs of phase {', '.join(names)} were submitted")
    return [
        evolve(options, **submitted[phase.id]).load(phase.source, registry) if phase.id in submitted else phase
        for phase in phases
    ]


def _submitted_values(phase: ResolvedPhase, options: Options) -> dict[str, Any]:
    """Return the options that the command leaves at their defaults, as far as the newest job has others."""
    defaults, job = Options(), newest_job(phase)
    return {
        name: value
        for name in ("site", "settings", "scale")
        if getattr(options, name) == getattr(defaults, name) != (value := getattr(job or defaults, name))
    }


def show_status(paths: Sequence[Path], registry: Registry, options: Options, *, as_json: bool = False) -> None:
    """Show a row for each experiment: its job, what the scheduler and its files say of it, and where its log is."""
    log = functools.partial(print, file=sys.stderr) if as_json else print
    phases = load_as_submitted(paths, registry, options, log)
    jobs, faults = jobs_of(phases, registry)
    if as_json:
        print_json(
            {
                "experiments": [
                    _as_json(phase, experiment, jobs.get(experiment.manifest.phase.experiment))
                    for phase in phases
                    for experiment in phase.experiments
                ],
                "winners": {phase.id: winner.winner if (winner := recorded(phase)) else None for phase in phases},
                "faults": faults,
            }
        )
        return
    rows = [
        [phase.id, *_row(phase, experiment, jobs.get(experiment.manifest.phase.experiment))]
        for phase in phases
        for experiment in phase.experiments
    ]
    print_table("Experiments", HEADINGS, rows, [False] * len(rows))
    show_phases(phases)
    for fault in faults:
        print(f"{fault}; the states are those of the files alone")


def _row(phase: ResolvedPhase, experiment: ResolvedManifest, job: RunJob | None) -> list[str]:
    folder = run_folder(experiment)
    run = read_run(folder.root) if folder.record.is_file() else None
    state = job.state if job else None
    word = f"{state.status}{f': {state.reason}' if state.reason and state.is_active else ''}" if state else "-"
    node = (state.node if state else "") or (run.record.host if run and run.record else "")
    return [
        phase.label(experiment),
        f"{job.cluster} {job.name}" if job else "-",
        f"{word}, and never starts" if state and state.is_stuck else word,
        run.state if run else "not started",
        progress(run) if run else "",
        best_so_far(run) if run else "",
        node,
        str(job.log) if job and job.log.is_file() else "-",
    ]


def _as_json(phase: ResolvedPhase, experiment: ResolvedManifest, job: RunJob | None) -> dict[str, object]:
    """Return the same row for programs."""
    folder = run_folder(experiment)
    run = read_run(folder.root) if folder.record.is_file() else None
    state = job.state if job else None
    return {
        "phase": phase.id,
        "experiment": phase.label(experiment),
        "job": {"cluster": job.cluster, "id": job.name, "log": job.log} if job else None,
        "scheduler": {"status": state.status, "active": state.is_active, "stuck": state.is_stuck, "node": state.node}
        if state
        else None,
        "run": run.as_json() if run else None,
    }


def cancel_jobs(
    paths: Sequence[Path], only: Sequence[str], registry: Registry, options: Options, log: Log = print
) -> None:
    """End the jobs of some phases, or of some experiments of one; a run that they have begun can go on later."""
    phases = load_as_submitted(paths, registry, options, log)
    jobs, faults = jobs_of(phases, registry)
    if faults:
        raise UserError("; ".join(faults))
    active = [(name, jobs[name]) for name in _names(phases, only) if name in jobs and jobs[name].is_active]
    if not active:
        raise UserError("none of them has a job that waits or runs; imginav status shows what has become of them")
    ended = cancel((job for _, job in active), registry)
    for name, job in active:
        log(f"{name}: {job.cluster} job {job.name} {'has ended' if job.place in ended else 'is being cancelled'}")


def show_log(path: Path, only: Sequence[str], registry: Registry, options: Options, *, follow: bool) -> None:
    """Print the log of an experiment's last job, and with `follow` what it writes until the job has ended."""
    phases = load_as_submitted([path], registry, options, functools.partial(print, file=sys.stderr))
    names = _names(phases, only)
    if len(names) > 1:
        raise UserError(f"{path}: has {len(names)} experiments; name one of them with --only: {', '.join(names)}")
    (name,) = names
    jobs, _ = jobs_of(phases, registry)
    if (job := jobs.get(name)) is None:
        raise UserError(f"{name} has had no job; submit it by imginav submit {path}")
    if not job.log.is_file() and not (follow and job.is_active):
        word = f" ({job.state.status})" if job.state else ""
        raise UserError(f"{job.cluster} job {job.name} of {name} has written nothing yet{word}: {job.log}")
    position = _print_from(job.log, 0)
    asked = time.monotonic()
    while follow and job.is_active:
        time.sleep(FOLLOWED_SECONDS)
        if time.monotonic() - asked > ASKED_SECONDS:
            job, asked = jobs_of(phases, registry)[0][name], time.monotonic()
        position = _print_from(job.log, position)


def _print_from(path: Path, position: int) -> int:
    """Print a file from a position on, and return where it ends now."""
    try:
        with path.open("rb") as stream:
            stream.seek(position)
            sys.stdout.write(stream.read().decode(errors="replace"))
            sys.stdout.flush()
            return stream.tell()
    except FileNotFoundError:
        return position


def _names(phases: Sequence[ResolvedPhase], only: Sequence[str]) -> list[str]:
    """Return the names of the runs of some phases, or of some experiments of the one."""
    if only and len(phases) > 1:
        raise UserError(f"--only {only[0]}: is for one phase, and there are {len(phases)}; name one of them")
    return [experiment.manifest.phase.experiment for phase in phases for experiment in chosen(phase, only)]
