"""`imginav submit`: the experiments of phases as jobs, each phase after those whose winners it takes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from imginav.errors import UserError, did_you_mean
from imginav.files import move_aside, write_text
from imginav.manifest.profiles import Profile
from imginav.manifest.resolved import ResolvedManifest, ResolvedPhase
from imginav.manifest.site import SITE_FILE
from imginav.plugin.cluster import BaseCluster
from imginav.plugin.registry import Registry
from imginav.runs.experiment import is_finished
from imginav.runs.records import utc_now
from imginav.study.phases import Options, chosen, phases_in_order
from imginav.study.selection import recorded
from imginav_inspect.phase_check import check_phases, report_faults
from imginav_jobs.cluster import Cluster, JobSpec
from imginav_jobs.job_records import JobRecord, RunJob, cancel, jobs_folder, jobs_of

Log = Callable[[str], None]


@frozen(kw_only=True)
class Request:
    """What is to be submitted."""

    paths: tuple[Path, ...]  # phases, or folders of them
    only: tuple[str, ...] = ()  # experiments of the one phase; empty: all
    profile: str | None = None  # of the cluster, for all of them; none: the one that is for each
    require_winners: bool = False  # whether jobs refuse to run without the winners that their phase takes
    dry_run: bool = False  # whether scripts are shown and nothing is written or submitted

    def phases(self) -> Iterator[tuple[Path, bool]]:
        """Return the phases in the order of their dependences, and whether each is one of a chain."""
        for path in self.paths:
            if path.is_dir():
                yield from ((phase, True) for phase in phases_in_order(path))
            else:
                yield path, len(self.paths) > 1


@frozen
class Submitter:
    """Submits phases one after the other, and knows which jobs the next ones wait for."""

    request: Request
    registry: Registry
    options: Options
    log: Log
    _jobs: dict[str, list[str]] = field(factory=dict)  # that are to end first, by phase
    _warned: set[str] = field(factory=set)

    def submit(self, path: Path, *, in_chain: bool) -> None:
        """Submit what is open of a phase."""
        phase = self.options.load(path, self.registry)
        if not phase.profiles:
            raise UserError(
                f"{path}: there is no [cluster] to submit to; add [cluster] type = 'lsf', 'slurm', 'pbs' or 'local' to "
                f"{SITE_FILE}, or say --set cluster.type=slurm"
            )
        after = [job for earlier in phase.winners for job in self._jobs.get(earlier, ())]
        open_ones = self._open(phase, waits=bool(after))
        jobs = self._jobs.setdefault(phase.id, [])
        if not self.request.dry_run:
            known, faults = jobs_of([phase], self.registry)
            if faults:
                raise UserError("; ".join(faults))
            jobs += dict.fromkeys(job.place.job for job in known.values() if job.is_active and not _is_stuck(job))
            open_ones = self._without_jobs(open_ones, known)
        groups = self._groups(phase, open_ones)
        for profile, elements in groups:
            options = self._job_options(phase, in_chain)
            work = _work(phase, profile.name if len(groups) > 1 else "", elements, options.arguments)
            jobs += self._submit(profile.cluster, work, options, after)
        if not jobs:
            self.log(f"phase {phase.id} is finished: there is nothing to submit")

    def _open(self, phase: ResolvedPhase, *, waits: bool) -> dict[int, ResolvedManifest]:
        """Return the experiments that are not finished, by their number; all, where what they take is yet to come."""
        wanted = chosen(phase, self.request.only)
        numbered = {number: e for number, e in enumerate(phase.experiments, start=1) if e in wanted}
        if waits:
            return numbered
        open_ones = {number: e for number, e in numbered.items() if not is_finished(e)}
        # All are trained, and still there is no winner: any of them decides it.
        return open_ones or (
            {} if recorded(phase) or len(phase.experiments) == 1 else dict([next(iter(numbered.items()))])
        )

    def _without_jobs(
        self, experiments: dict[int, ResolvedManifest], known: dict[str, RunJob]
    ) -> dict[int, ResolvedManifest]:
        """Leave out those that are pending or running already; cancel jobs that can never start."""
        left = {}
        for number, experiment in experiments.items():
            job = known.get(experiment.manifest.phase.experiment)
            if job is not None and _is_stuck(job):
                cancel([job], self.registry)
                self.log(f"{experiment.name}: job {job.name} can never start (its dependency failed); cancelled")
            elif job is not None and job.is_active:
                self.log(
                    f"{experiment.name} has {job.cluster} job {job.name} already ({job.state and job.state.status})"
                )
                continue
            left[number] = experiment
        return left

    def _groups(
        self, phase: ResolvedPhase, experiments: dict[int, ResolvedManifest]
    ) -> list[tuple[Profile, dict[int, ResolvedManifest]]]:
        """Return the experiments by the profile that is for each."""
        groups: dict[str, tuple[Profile, dict[int, ResolvedManifest]]] = {}
        for number, experiment in experiments.items():
            profile = self._profile(phase, experiment)
            groups.setdefault(profile.name, (profile, {}))[1][number] = experiment
        return list(groups.values())

    def _profile(self, phase: ResolvedPhase, experiment: ResolvedManifest) -> Profile:
        names = [profile.name for profile in phase.profiles if profile.name]
        if (wanted := self.request.profile) is None:
            own = phase.id, experiment.name, experiment.manifest.phase.experiment
            return next(profile for profile in phase.profiles if profile.is_for(*own))
        if wanted not in names:
            raise UserError(
                f"--profile {wanted}: [cluster.profiles] has no such profile{did_you_mean(wanted, names)}; it has "
                f"{', '.join(names) or 'none'}"
            )
        return next(profile for profile in phase.profiles if profile.name == wanted)

    def _job_options(self, phase: ResolvedPhase, in_chain: bool) -> Options:
        needs_winners = bool(phase.winners) and (in_chain or self.request.require_winners)
        # `cluster.*` settings are for submission only and must not reach the job.
        settings = tuple(setting for setting in self.options.settings if not setting.startswith("cluster."))
        return evolve(self.options, settings=settings, require_winners=needs_winners)

    def _submit(self, cluster: BaseCluster, work: JobSpec, options: Options, after: Sequence[str]) -> list[str]:
        """Submit a job, and return its id."""
        kind = self.registry.name_of(type(cluster))
        if not isinstance(cluster, Cluster):
            raise UserError(
                f"cluster.type = {kind!r}: its class does not derive from imginav.Cluster; repair the plugin"
            )
        script = cluster.script(work)
        self._warn(cluster)
        if self.request.dry_run:
            if any(self._jobs.values()):  # not the first one
                print(f"\n# ==> {work.script}: {shlex.join(cluster.submission(work, after))}")
            print(script, end="")
            return [f"JOB_OF_{work.name}"]
        if work.script.is_file() and work.script.read_text() != script:
            self.log(f"the script of an earlier job is kept in {move_aside(work.script)}")
        write_text(work.script, script)
        job = cluster.submit(work, after)
        several = cluster.has_arrays and work.is_array
        elements = {name: number if several else 0 for number, name in work.elements.items()}
        JobRecord(
            cluster=kind,
            job=job,
            submitted=utc_now(),
            elements=elements,
            site=options.site,
            settings=options.settings,
            scale=options.scale,
        ).save(work.folder)
        what = f"{len(elements)} experiments" if len(elements) > 1 else next(iter(elements))
        waits = f", after {', '.join(after)}" if after else ""
        self.log(f"{kind} job {job}: {what}{waits}; its script is {work.script}")
        return [job]

    def _warn(self, cluster: Cluster) -> None:
        """Print each warning about a cluster once, apart from the scripts that a dry run prints."""
        for warning in cluster.warnings():
            if warning not in self._warned:
                self._warned.add(warning)
                print(f"warning: {warning}", file=sys.stderr)


def submit(request: Request, registry: Registry, options: Options, log: Log = print) -> None:
    """Submit phases as jobs, or show their scripts.

    What is wrong with any of them is told before the first one is submitted. Raises UserError for that, and where a
    scheduler refuses a job.
    """
    phases = list(request.phases())
    if request.only and len(phases) > 1:
        raise UserError(f"--only {request.only[0]}: is for one phase, and there are {len(phases)}; name one of them")
    if not request.dry_run:
        # The machine that submits need not be as those that compute.
        report_faults(
            check_phases(request.paths, registry, evolve(options, settings=(*options.settings, "machine.device=auto")))
        )
    submitter = Submitter(request, registry, options, (lambda _: None) if request.dry_run else log)
    for path, in_chain in phases:
        submitter.submit(path, in_chain=in_chain)


def _is_stuck(job: RunJob) -> bool:
    return job.state is not None and job.state.is_stuck


def _work(
    phase: ResolvedPhase, profile: str, experiments: dict[int, ResolvedManifest], arguments: tuple[str, ...]
) -> JobSpec:
    names = {number: experiment.manifest.phase.experiment for number, experiment in experiments.items()}
    name = phase.manifest.phase.group if len(names) > 1 else next(iter(names.values()))
    return JobSpec(
        name=f"{name}_{profile}" if profile else name,
        heading=phase.heading,
        phase=phase.source,
        arguments=arguments,
        elements=names,
        whole=len(names) == len(phase.experiments),
        folder=jobs_folder(phase),
    )
