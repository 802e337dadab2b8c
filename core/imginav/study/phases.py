"""Phases in order: the experiments of a sweep, their winners, the chain."""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from imginav.errors import UserError, did_you_mean
from imginav.files import move_aside, remove_stale_parts
from imginav.formatting import format_duration
from imginav.manifest.config_layers import merge, read_chain
from imginav.manifest.fingerprints import DataFingerprint
from imginav.manifest.loading import Scale, load_phase
from imginav.manifest.reading import read_toml
from imginav.manifest.resolved import ResolvedManifest, ResolvedPhase
from imginav.manifest.site import SITE_FILE
from imginav.manifest.winners import FILE, Winner
from imginav.plugin.plugin_faults import plugin_faults_named
from imginav.plugin.registry import InstalledHooks, Registry
from imginav.processes.distributed import ALONE, World
from imginav.processes.stop_request import StopRequest
from imginav.processes.torchrun import Launch
from imginav.runs.experiment import is_finished, run_folder
from imginav.runs.records import load_record
from imginav.runs.resuming import Resume
from imginav.study import experiment_processes
from imginav.study.selection import (
    RunResult,
    data_fingerprints,
    gather,
    notes_on_winners,
    overrule,
    recorded,
    refuse_strange_winners,
    same_evidence,
    select,
)
from imginav.terminal import print_table
from imginav.verbosity import unless_quiet

Log = Callable[[str], None]


@frozen(kw_only=True)
class Options:
    """How the phases of a command are loaded and run: what the command line says beside the files."""

    site: Path | None = None
    settings: tuple[str, ...] = ()
    plugin_files: tuple[Path, ...] = ()  # that are in use already; for the commands of other processes
    scale: Scale = "auto"
    require_winners: bool = False
    jobs: int = 1  # experiments at a time
    resume: Resume = "auto"
    launch: Launch = field(factory=Launch)  # in how many processes each experiment is trained
    stop_request: StopRequest = field(factory=StopRequest)  # what the command hears of signals and its time

    def load(self, path: Path, registry: Registry) -> ResolvedPhase:
        """Load a phase in this way."""
        return load_phase(
            path,
            registry,
            site=self.site,
            settings=self.settings,
            scale=self.scale,
            require_winners=self.require_winners,
        )

    def extended(self, experiments: Sequence[ResolvedManifest], more: int) -> Options:
        """Return these options for a run that is trained for `more` epochs than it has been.

        One that was interrupted, while it was extended or before, is resumed to the end that it had. Raises UserError
        where there is no run, or more than one.
        """
        if len(experiments) > 1:
            names = ", ".join(experiment.manifest.phase.experiment for experiment in experiments)
            raise UserError(f"--extend {more}: extends one run, and these are {names}; name one of them with --only")
        folder = run_folder(experiments[0])
        if (record := load_record(folder.record)) is None:
            raise UserError(f"--extend {more}: {folder.root} holds no run yet; leave --extend out, and it is trained")
        epochs = record.epoch + more if record.state == "finished" else record.epochs
        return evolve(self, settings=(*self.settings, f"train.epochs={epochs}"), resume="extend")

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments by which another command loads phases in this way."""
        return (
            *(("--site", str(self.site)) if self.site else ()),
            *(part for setting in self.settings for part in ("--set", setting)),
            *(part for file in self.plugin_files for part in ("--plugin", str(file))),
            *(() if self.scale == "auto" else (f"--{self.scale}",)),
            *(("--require-winners",) if self.require_winners else ()),
        )

    @property
    def process(self) -> experiment_processes.ProcessOptions:
        """How experiments are trained in processes of their own."""
        return experiment_processes.ProcessOptions(
            jobs=self.jobs,
            resume=self.resume,
            began=self.stop_request.began,
            launch=self.launch,
            arguments=self.arguments,
        )


@frozen(kw_only=True)
class ConcludedPhase:
    """A phase whose experiments were compared, for the plugins that write it down."""

    phase: ResolvedPhase
    experiments: Sequence[RunResult]
    winner: Winner | None
    changed: bool  # whether anything differs from the last time: False where the same winner still stands


@frozen(kw_only=True)
class OpenPhase:
    """A phase whose layouts are there and whose winners fit them."""

    phase: ResolvedPhase
    fingerprints: tuple[DataFingerprint, ...]  # of the layouts of each experiment
    hooks: InstalledHooks
    log: Log = field(default=print)
    world: World = ALONE  # the processes that train one experiment together

    def run(self, experiments: Sequence[ResolvedManifest], options: Options) -> dict[str, str]:
        """Train those of some experiments that are not finished; return why the failed ones did, by their run."""
        if self.world.size > 1:
            raise UserError(
                f"torchrun has started {self.world.size} processes, which train one experiment; name it by --only or "
                "--index, or train all by imginav run --gpus, which starts torchrun for each"
            )
        if isinstance(options.resume, Path):
            raise UserError(
                f"--resume {options.resume}: is one checkpoint for {len(experiments)} experiments; take one of them "
                "with --only"
            )
        names = [experiment.manifest.phase.experiment for experiment in self.phase.experiments]
        fingerprints = dict(zip(names, self.fingerprints, strict=True))
        open_ones, log = [], unless_quiet(self.log)
        for experiment in experiments:
            name = experiment.manifest.phase.experiment
            if options.resume == "auto" and is_finished(experiment, fingerprints[name]):
                log(f"{name} is finished already; --resume never trains it anew")
            else:
                open_ones.append(experiment)
        logs = self.phase.shared / "logs"
        return experiment_processes.run_all(open_ones, options.process, options.stop_request, logs=logs, log=log)

    def conclude(self, *, asked: bool = False, of_finished: bool = False, anew: bool = False) -> Winner | None:
        """Compare what is finished, declare the winner when all is, and show both; return the winner.

        A phase without a rule has a winner only if it is `asked` for: of a single run, it would be that run. With
        `of_finished` the winner is chosen among those that are finished, even where others are not; with `anew` all is
        shown as if it had changed. A decision of a person stands as long as the figures do that it was made on.
        """
        remove_stale_parts(self.phase.shared)
        evidence = gather(self.phase, self.fingerprints)
        unfinished = [e for e in evidence if e.state != "finished"]
        winner, changed = None, True
        declares = asked or self.phase.selector is not None
        try:
            if declares and (not unfinished or of_finished):
                winner, changed = self._declare(select(self.phase, evidence))
        finally:  # also where none can win, what there is can be looked at
            self.show(evidence, winner, changed=changed or anew)
        if declares and unfinished and not winner:
            self.log(
                f"{len(evidence) - len(unfinished)} of {len(evidence)} experiments of phase {self.phase.id} are "
                f"finished, and no winner is declared before all are: "
                + ", ".join(f"{e.run} is {e.state}" for e in unfinished)
                + f"; imginav winner {self.phase.source} --of-finished chooses among those that are"
            )
        return winner

    def set_winner(self, name: str, because: str) -> Winner:
        """Record the decision of a person, and show it."""
        evidence = gather(self.phase, self.fingerprints)
        winner = overrule(self.phase, evidence, name, because)
        winner.save(self.phase.shared, self.phase.structurer)
        self.show(evidence, winner)
        return winner

    def show(self, experiments: Sequence[RunResult], winner: Winner | None, *, changed: bool = True) -> None:
        """Let the installed plugins show the comparison, and name the winner."""
        if any(e.evaluation for e in experiments):
            concluded = ConcludedPhase(phase=self.phase, experiments=experiments, winner=winner, changed=changed)
            self.hooks.phase_concluded(concluded)
        if winner and len(experiments) > 1:  # the summary of a single run says it all
            self.log(f"{winner.summary}\nbecause {winner.because}\nrecorded in {self.phase.shared / FILE}")

    def _declare(self, new: Winner | None) -> tuple[Winner | None, bool]:
        """Record a winner by the rule, unless the one on record rests on the same figures; return whether it is new."""
        old = recorded(self.phase)
        if new is None:
            return None, True
        if old is not None and same_evidence(old, new):
            return old, False
        if old is not None and old.chosen_by == "person":
            kept = move_aside(self.phase.shared / FILE)
            self.log(
                f"the figures have changed since {old.winner} was set by a person, because {old.because!r}: the rule "
                f"decides again, and the earlier decision is kept in {kept}"
            )
        new.save(self.phase.shared, self.phase.structurer)
        return new, True


def open_phase(phase: ResolvedPhase, hooks: InstalledHooks, log: Log = print, world: World = ALONE) -> OpenPhase:
    """Open the layouts of a phase; raises UserError where they cannot be, or winners were found on other ones."""
    fingerprints, note = tuple(data_fingerprints(phase)), unless_quiet(log)
    for data in dict.fromkeys(fingerprints):
        refuse_strange_winners(phase, data)
    if phase.experiments[0].trial:
        note(
            f"trial scale, as [trial] in {phase.source} and below says; --full trains at full scale, and [data] in "
            f"{SITE_FILE} names layouts of your own"
        )
    for winner in phase.lineage.values():
        note(winner.summary)
    for warning in (*phase.notes, *notes_on_winners(phase)):
        log(warning)
    return OpenPhase(phase=phase, fingerprints=fingerprints, hooks=hooks, log=log, world=world)


def chosen(phase: ResolvedPhase, only: Sequence[str] = (), index: int | None = None) -> list[ResolvedManifest]:
    """Return the experiments that are asked for by name, or by number from 1 on; all where nothing is asked for."""
    if index is not None:
        if not 1 <= index <= len(phase.experiments):
            runs = ", ".join(e.manifest.phase.experiment for e in phase.experiments)
            raise UserError(
                f"--index {index}: {phase.source} has {len(phase.experiments)} experiments, counted from 1: {runs}"
            )
        return [phase.experiments[index - 1]]
    known = [*phase.names, *(experiment.manifest.phase.experiment for experiment in phase.experiments)]
    for name in only:
        if name not in known:
            raise UserError(
                f"--only {name}: {phase.source} has no such experiment{did_you_mean(name, known)}; "
                f"it has {', '.join(phase.names)}"
            )
    return [e for e in phase.experiments if not only or {e.name, e.manifest.phase.experiment} & set(only)]


def phases_in_order(folder: Path) -> list[Path]:
    """Return the phases of a folder, each after those whose winners it takes; without such, by their number.

    Raises UserError for phases that take winners from each other in a circle, or have the same number.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder; name the one that holds the phases, such as phases/")
    files: dict[str, Path] = {}
    needs: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.toml")):
        if "phase" not in read_toml(path):  # a file that others extend, or a site file
            continue
        tables, _ = merge(read_chain(path))
        phase, winners = tables["phase"], tables.get("winners", {})
        number = phase.get("id") if isinstance(phase, dict) else None
        if not isinstance(number, str):
            raise UserError(f'{path}: phase.id = {number!r}: expected text in quotes, such as "1.1"')
        if number in files:
            raise UserError(f"{files[number]} and {path} are both phase {number}; give one of them another phase.id")
        files[number] = path
        needs[number] = set(winners) if isinstance(winners, dict) else set()
    if not files:
        raise UserError(f"{folder}: holds no phase: no *.toml file with a [phase] table")
    order = graphlib.TopologicalSorter({number: sorted(needs[number] & set(files)) for number in sorted(files)})
    try:
        return [files[number] for number in order.static_order()]
    except graphlib.CycleError as error:
        circle = " → ".join(error.args[1])
        raise UserError(f"{folder}: phases take winners from each other in a circle: {circle}; take one out") from None


def run_study(folder: Path, registry: Registry, options: Options, log: Log = print) -> bool:
    """Run the phases of a folder in the order of their dependences; return whether each has its winner.

    Where a phase fails, those that take its winner wait, and the others go on.
    """
    failed: dict[str, str] = {}
    for path in phases_in_order(folder):
        phase = options.load(path, registry)
        unless_quiet(log)(f"\n━━ {phase.heading} ({path}) ━━")
        if blocked := [earlier for earlier in phase.winners if earlier in failed]:
            failed[phase.id] = f"waits for phase {', '.join(blocked)}"
        elif fault := _run_whole(phase, registry.hooks, options, log):
            failed[phase.id] = fault
        if phase.id in failed:
            log(f"phase {phase.id} has no winner: {failed[phase.id]}")
    show_phases([options.load(path, registry) for path in phases_in_order(folder)])
    return not failed


def _run_whole(phase: ResolvedPhase, hooks: InstalledHooks, options: Options, log: Log) -> str:
    """Run a phase and declare its winner; return what kept it from having one, or nothing."""
    try:
        with plugin_faults_named():
            opened = open_phase(phase, hooks, log)
            failures = opened.run(phase.experiments, options)
            opened.conclude()
    except UserError as error:
        return str(error)
    return "; ".join(f"{name}: {reason}" for name, reason in failures.items())


def show_phases(phases: Sequence[ResolvedPhase]) -> None:
    """Show where a study stands: one row for each phase."""
    rows = []
    for phase in phases:
        evidence = gather(phase)
        states = [e.state for e in evidence]
        running = [f"{e.run} {e.record.epoch}/{e.record.epochs}" for e in evidence if e.state == "running" and e.record]
        winner = recorded(phase)
        current = winner is not None and winner.manifest_sha256 == phase.sha256
        rows.append(
            [
                phase.id,
                phase.manifest.phase.title,
                f"{states.count('finished')} of {len(states)}",
                "\n".join(running) or "-",
                "\n".join(e.run for e in evidence if e.state in ("failed", "interrupted", "cut off")) or "-",
                f"{winner.winner if winner else '-'}{'' if current or not winner else ' (of other values)'}",
                format_duration(sum(e.record.seconds for e in evidence if e.record)),
            ]
        )
    headings = ["phase", "title", "done", "running", "failed or cut off", "winner", "time"]
    print_table("Phases", headings, rows, [False] * len(rows))
