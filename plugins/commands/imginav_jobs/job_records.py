"""The jobs of experiments: kept beside their phase when they are submitted, and what a scheduler says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import frozen

from imginav.errors import UserError
from imginav.manifest.json_record import load_record_of, save_record
from imginav.manifest.loading import Scale
from imginav.manifest.resolved import ResolvedManifest, ResolvedPhase
from imginav.plugin.cluster import JobId
from imginav.plugin.registry import Registry
from imginav.runs.experiment import run_folder
from imginav.runs.records import load_record
from imginav_jobs.cluster import Cluster, JobState

FOLDER = "jobs"
"""Of a phase's shared folder: scripts, logs, and a file for each job."""


@frozen(kw_only=True)
class JobRecord:
    """A job that was submitted."""

    cluster: str  # the kind of cluster
    job: str  # its id there
    submitted: str  # UTC, ISO 8601
    elements: dict[str, int]  # by the run's name, its number in the array; 0: it is none
    site: Path | None = None  # --site, --set and --full or --trial, as they were submitted
    settings: tuple[str, ...] = ()  # without those of the cluster
    scale: Scale = "auto"

    def save(self, folder: Path) -> None:
        """Write it into the folder of a phase's jobs."""
        save_record(folder / f"{self.cluster}_{self.job}.json", self)


@frozen(kw_only=True)
class RunJob:
    """The last job of a run."""

    cluster: str
    place: JobId
    log: Path
    state: JobState | None = None  # none: the scheduler has forgotten it, or cannot be asked

    @property
    def name(self) -> str:
        """The id, as schedulers write it for an array's element."""
        return self.place.name

    @property
    def is_active(self) -> bool:
        return self.state is not None and self.state.is_active


def jobs_folder(phase: ResolvedPhase) -> Path:
    """Return where the jobs of a phase leave their files."""
    return phase.shared / FOLDER


def newest_job(phase: ResolvedPhase) -> JobRecord | None:
    """Return the job of a phase that was submitted last, or None if there is no record of any."""
    return next(reversed(_records(phase)), None)


def jobs_of(phases: Sequence[ResolvedPhase], registry: Registry) -> tuple[dict[str, RunJob], list[str]]:
    """Return the last job of each run that has had one, by the run's name, and why schedulers could not be asked."""
    found: dict[str, RunJob] = {}
    for phase in phases:
        found |= _submitted(phase, registry)
        for experiment in phase.experiments:
            name = experiment.manifest.phase.experiment
            if (own := _own(experiment, phase, registry)) and name not in found:
                found[name] = own
    states: dict[tuple[str, JobId], JobState] = {}
    faults = []
    for kind in dict.fromkeys(job.cluster for job in found.values()):
        ids = list(dict.fromkeys(job.place.job for job in found.values() if job.cluster == kind))
        try:
            told = _cluster(kind, registry).states(ids)
        except UserError as error:
            faults.append(f"{kind} cannot be asked: {error}")
        else:
            states |= {(kind, place): state for place, state in told.items()}
    return {
        name: RunJob(cluster=job.cluster, place=job.place, log=job.log, state=states.get((job.cluster, job.place)))
        for name, job in found.items()
    }, faults


def cancel(jobs: Iterable[RunJob], registry: Registry) -> set[JobId]:
    """Cancel jobs and return those that have ended by now; raises UserError if a scheduler refuses to cancel others."""
    places: dict[str, dict[JobId, None]] = {}
    for job in jobs:
        places.setdefault(job.cluster, {})[job.place] = None
    return {place for kind, wanted in places.items() for place in _cancel(_cluster(kind, registry), list(wanted))}


def _cancel(cluster: Cluster, places: Sequence[JobId]) -> list[JobId]:
    try:
        cluster.cancel(places)
    except UserError:
        # A job may end after its state was read, and schedulers refuse to cancel it.
        states = cluster.states(list(dict.fromkeys(place.job for place in places)))
        active = [place for place in places if place in states and states[place].is_active]
        if len(active) == len(places):
            raise
        ended = [place for place in places if place not in active]
        return ended + (_cancel(cluster, active) if active else [])
    return []


def _records(phase: ResolvedPhase) -> list[JobRecord]:
    """Return the jobs of a phase, the newest last."""
    return sorted(map(_load, jobs_folder(phase).glob("*.json")), key=lambda record: record.submitted)


def _submitted(phase: ResolvedPhase, registry: Registry) -> dict[str, RunJob]:
    """Return the last submitted job of each run of a phase."""
    return {
        run: _run_job(record.cluster, JobId(job=record.job, index=index or None), jobs_folder(phase), registry)
        for record in _records(phase)
        for run, index in record.elements.items()
    }


def _own(experiment: ResolvedManifest, phase: ResolvedPhase, registry: Registry) -> RunJob | None:
    """Return the job that a run itself says it was in: somebody else has submitted it."""
    record = load_record(run_folder(experiment).record)
    if record is None or not record.job:
        return None
    kind, job, *index = record.job.split(" ")
    return _run_job(kind, JobId(job=job, index=int(index[0]) if index else None), jobs_folder(phase), registry)


def _run_job(kind: str, place: JobId, folder: Path, registry: Registry) -> RunJob:
    return RunJob(cluster=kind, place=place, log=_cluster(kind, registry).log(folder, place))


def _cluster(kind: str, registry: Registry) -> Cluster:
    known = {r.name: r.component for r in registry if issubclass(r.component, Cluster)}
    if kind not in known:
        raise UserError(
            f"a job was submitted to a cluster of kind {kind!r}; install its plugin: there are {', '.join(known)}"
        )
    return known[kind]()


def _load(path: Path) -> JobRecord:
    return load_record_of(path, JobRecord, "the record of a job", "remove it")
