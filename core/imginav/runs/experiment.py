"""One experiment, from a resolved manifest to what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from attrs import evolve, frozen

from imginav.data.loader import open_fingerprint
from imginav.errors import UserError
from imginav.files import write_text
from imginav.manifest.fingerprints import DataFingerprint
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.checkpoint import on_cpu
from imginav.plugin.discovery import DISABLE
from imginav.plugin.hookspecs import hookimpl
from imginav.plugin.plugin_faults import plugin_faults_named
from imginav.plugin.registry import InstalledHooks, installed
from imginav.plugin.validators import seconds_of
from imginav.processes.allocator import keep_freed_memory
from imginav.processes.distributed import ALONE, World
from imginav.processes.stop_request import Interrupted, StopRequest
from imginav.runs.evaluation_result import EvaluationResult, load_evaluation
from imginav.runs.lock import RunLock
from imginav.runs.rank_agreement import refuse_other_layouts, refuse_other_manifests
from imginav.runs.records import Recorder, RunRecord, load_record
from imginav.runs.resuming import Resume, resume_run
from imginav.runs.run_folder import RunFolder
from imginav.training.assembly import assemble, build_hooks
from imginav.training.device import limits_named
from imginav.training.optimization import Optimization
from imginav.training.trainer import Trainer

Log = Callable[[str], None]

FINISHED = "finished"
"""Broadcast by rank 0 where the run is finished already."""

NOTED_SECONDS = 15.0
"""Between two notes of the progress within an epoch."""


@frozen(kw_only=True)
class FinishedRun:
    """A run whose training has ended, for the plugins that evaluate it; the trainer holds the final weights."""

    trainer: Trainer
    folder: RunFolder
    resolved: ResolvedManifest
    timed: bool  # whether times mean something: not beside other experiments


def run_experiment(
    resolved: ResolvedManifest,
    log: Log = print,
    *,
    resume: Resume = "auto",
    stop_request: StopRequest | None = None,
    timed: bool = True,
    world: World = ALONE,
    hooks: InstalledHooks | None = None,
) -> EvaluationResult:
    """Train what a manifest describes, and leave all deliverables in its run folder.

    With `auto`, a finished run of the same manifest and layouts is left as it is, one that is not finished goes on
    from its last checkpoint, and any other is moved aside. Without `timed` its latency is not measured: beside other
    work it would mean nothing. `hooks` are those of the installed plugins, which evaluate the run; all of them are
    loaded where none are given. `log` takes the lines for people. Where several processes train, this is what the
    first one does, and the others follow it by `follow_experiment`. Raises UserError for what a user can mend, as
    early as it can be known, and Interrupted where it is asked to leave, with what it needs to go on saved.
    """
    hooks = hooks or installed().hooks
    stop_request = stop_request or StopRequest()
    _begin(resolved, stop_request, world)
    folder = run_folder(resolved)
    with RunLock(folder.root, stop_request.abort, log):
        earlier = load_record(folder.record, locked=True)
        if resume == "auto" and earlier and _is_trained(resolved):
            if evaluation := _evaluated(folder):
                log(
                    f"{folder.experiment} is finished already, with the same manifest and layouts, in {folder.root}; "
                    "--resume never trains it anew"
                )
                world.broadcast(FINISHED)
                return evaluation
            _refuse_without_checkpoint(folder)
            earlier = evolve(earlier, state="interrupted")  # before its end, which is the evaluation
        world.broadcast("")
        trainer = build_trainer(resolved, log, world=world)
        with closing(trainer.data):
            goes_on = resume_run(trainer, folder, resolved, earlier, resume, log)
            world.broadcast(_place_of(trainer, goes_on=goes_on))
            recorder = _record(trainer, folder, resolved, earlier if goes_on else None)
            with (
                stop_request.deferred(),
                recorder.until_finished(),
                plugin_faults_named(),
                limits_named(),
                _saved_where_it_left(folder),
                world.failures_named(),
            ):
                write_text(folder.manifest, resolved.to_toml())
                try:
                    trainer.hooks.run_started(trainer, folder, resolved)
                    trainer.fit(stop_request)
                finally:
                    trainer.hooks.run_closed(trainer)
                trainer.leave_group()
                evaluation = _finish(FinishedRun(trainer=trainer, folder=folder, resolved=resolved, timed=timed), hooks)
            world.barrier()
            return evaluation


def _record(trainer: Trainer, folder: RunFolder, resolved: ResolvedManifest, earlier: RunRecord | None) -> Recorder:
    """Start the record of a run, or that of another attempt, and keep it up to date from epoch to epoch."""
    recorder = Recorder.start(
        folder.record, folder.experiment, resolved.sha256, trainer.data.fingerprint, trainer.epochs, earlier
    )
    trainer.hooks.add("the run's record", EpochRecorder(recorder))
    return recorder


def follow_experiment(resolved: ResolvedManifest, world: World, stop_request: StopRequest) -> None:
    """Train what a manifest describes as one of several processes, of which another is the first.

    It writes nothing and says nothing. Raises UserError and Interrupted as `run_experiment` does, also where the first
    one does.
    """
    _begin(resolved, stop_request, world)
    if world.broadcast("") == FINISHED:
        return
    trainer = build_trainer(resolved, world.log, world=world)
    with closing(trainer.data):
        if place := world.broadcast(None):
            trainer.model.load_state_dict(place["model"])
            trainer.load_state_dict(place["training"])
        with stop_request.deferred(), limits_named(), world.failures_named():
            try:
                trainer.hooks.run_started(trainer, run_folder(resolved), resolved)
                trainer.fit(stop_request)
            finally:
                trainer.hooks.run_closed(trainer)
            world.barrier()  # until the first one has written what the run leaves


def _begin(resolved: ResolvedManifest, stop_request: StopRequest, world: World) -> None:
    """Keep to the time limit, and refuse to begin where ranks would train different things."""
    keep_freed_memory()
    if limit := resolved.manifest.train.time_limit:
        stop_request.limit(seconds_of(limit))
    refuse_other_manifests(resolved, world)


def _place_of(trainer: Trainer, *, goes_on: bool) -> dict[str, Any] | None:
    """Return what other processes need to be where a trainer is that goes on; none: it is at the start, as they are."""
    return on_cpu({"model": trainer.model.state_dict(), "training": trainer.state_dict()}) if goes_on else None


@contextmanager
def _saved_where_it_left(folder: RunFolder) -> Iterator[None]:
    """Raise UserError in place of Interrupted where nothing was saved: given again, it would begin anew each time."""
    try:
        yield
    except Interrupted as error:
        if folder.latest_checkpoint.exists():
            raise
        raise UserError(
            f"{folder.experiment} was stopped by {error} and cannot resume, since no callback saves its state; add "
            "[callbacks] checkpoint = {}"
        ) from None


def run_folder(resolved: ResolvedManifest) -> RunFolder:
    """Return where the files of an experiment lie, whether there are any or not."""
    output, phase = resolved.manifest.output, resolved.manifest.phase
    return RunFolder(output.experiments / phase.experiment, output.shared / phase.group, phase.experiment)


def is_finished(resolved: ResolvedManifest, data: DataFingerprint | None = None) -> bool:
    """Whether the run folder holds a finished run of the same manifest and layouts; `data` are these, if known."""
    return _is_trained(resolved, data) and _evaluated(run_folder(resolved)) is not None


def _is_trained(resolved: ResolvedManifest, data: DataFingerprint | None = None) -> bool:
    record = load_record(run_folder(resolved).record)
    if record is None or record.state != "finished" or record.manifest_sha256 != resolved.sha256:
        return False
    return record.data.same(data or open_fingerprint(resolved.manifest.data, resolved.manifest.train))


def _evaluated(folder: RunFolder) -> EvaluationResult | None:
    """Return what evaluation.json says; none where it is missing, damaged or of another version."""
    try:
        return load_evaluation(folder.evaluation)
    except UserError:
        return None


def _refuse_without_checkpoint(folder: RunFolder) -> None:
    """Raise UserError where a trained run cannot be evaluated anew from what it would go on from."""
    if not any(path.is_file() for path in (folder.latest_checkpoint, folder.previous_checkpoint)):
        raise UserError(
            f"{folder.experiment} is trained, but has no evaluation of this version of imginav, and no latest "
            f"checkpoint that it could be evaluated from; imginav evaluate {folder.best_checkpoint} --to {folder.root} "
            "writes one, and --resume never trains it anew"
        )


class EpochRecorder:
    """Notes each finished epoch in the run's record, and now and then how far the next one has come."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._noted = time.monotonic()

    @hookimpl
    def step_finished(self, trainer: Trainer) -> None:
        if trainer.totals and time.monotonic() - self._noted >= NOTED_SECONDS:
            self._noted = time.monotonic()
            with suppress(UserError):  # on a full disk, a note for people is not worth waiting for
                within = trainer.totals.batches, trainer.data.steps_per_epoch
                self._recorder.write("running", within=within, patient=False)

    @hookimpl(trylast=True)  # when the checkpoint of the epoch is written
    def epoch_finished(self, trainer: Trainer) -> None:
        self._recorder.write("running", epoch=trainer.epoch)


def build_trainer(
    resolved: ResolvedManifest, log: Log = print, *, prepared: bool = True, world: World = ALONE
) -> Trainer:
    """Return the trainer that a manifest describes; all that can be wrong without training is found here.

    Unless the layouts are `prepared`, which pays for whoever reads them all, nothing is written. Where several
    processes train, callbacks that only observe are with the first one alone.
    """
    train = resolved.manifest.train
    _refuse_idle_processes(train.batch_size, world)
    for probe in resolved.manifest.evaluation.probes.values():
        probe.check(resolved.manifest.data.window)
    hooks = build_hooks(resolved.manifest, world)
    assembly = assemble(resolved.manifest, log, prepared=prepared, world=world)
    refuse_other_layouts(assembly.data.fingerprint, world)
    if world.size > 1:
        log(
            f"{world.size} processes: each global batch of {train.batch_size} layouts is shared out, "
            f"{train.batch_size / world.size:g} to each"
        )
    optimization = Optimization(train.optimizer, train.lr_schedule, assembly.model, assembly.steps, assembly.device)
    return Trainer(train, assembly, optimization, hooks)


def _refuse_idle_processes(batch_size: int, world: World) -> None:
    if batch_size < world.size:
        raise UserError(
            f"train.batch_size = {batch_size} is the global batch, of which {world.size} processes would not each have "
            "a layout; start fewer of them"
        )


def _finish(run: FinishedRun, hooks: InstalledHooks) -> EvaluationResult:
    """Let the installed plugins evaluate the weights that the run leaves, and write what people look at."""
    hooks.run_finished(run)
    if not run.folder.evaluation.exists():
        raise UserError(
            f"no installed plugin has evaluated {run.folder.experiment}, so that it is not finished; take the plugin "
            f"'evaluation' of imginav out of {DISABLE}, and give the same command again"
        )
    return load_evaluation(run.folder.evaluation)
