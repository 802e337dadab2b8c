"""One experiment, from a resolved manifest to what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from attrs import evolve

from imginav import report
from imginav.autoencoder import build_autoencoder, check_sizes, parameter_count
from imginav.checkpoint import on_cpu
from imginav.checks import seconds_of
from imginav.data import Data, everything, open_print, split_as, steps_per_epoch
from imginav.device import limits_named, open_device
from imginav.distributed import ALONE, World
from imginav.errors import UserError
from imginav.evaluation import evaluate
from imginav.fingerprints import DataPrint
from imginav.hookspecs import RunHooks, hookimpl
from imginav.interruption import Interrupted, Interruption
from imginav.loading import ResolvedManifest
from imginav.lock import RunLock
from imginav.objective import Objective
from imginav.optimization import Optimization
from imginav.outcome import Outcome, load_outcome
from imginav.records import Recorder, load_record
from imginav.resuming import Resume, go_on
from imginav.rundir import RunFolder, write_text
from imginav.seeds import Seeds
from imginav.trainer import Trainer

Say = Callable[[str], None]

FINISHED = "finished"
"""What the first of several processes tells the others where there is nothing to train."""

NOTED_SECONDS = 15.0
"""Between two notes of the place within an epoch."""


def run_experiment(
    resolved: ResolvedManifest,
    say: Say = print,
    *,
    resume: Resume = "auto",
    interruption: Interruption | None = None,
    timed: bool = True,
    world: World = ALONE,
) -> Outcome:
    """Train what a manifest describes, and leave all deliverables in its run folder.

    With `auto`, a finished run of the same manifest and layouts is left as it is, one that is not finished goes on
    from its last checkpoint, and any other is moved aside. Without `timed` its latency is not measured: beside other
    work it would mean nothing. `say` takes the lines for people. Where several processes train, this is what the
    first one does, and the others follow it by `follow_experiment`. Raises UserError for what a user can mend, as
    early as it can be known, and Interrupted where it is asked to leave, with what it needs to go on saved.
    """
    interruption = interruption or Interruption()
    if limit := resolved.manifest.train.time_limit:
        interruption.limit(seconds_of(limit))
    folder = run_folder(resolved)
    with RunLock(folder.root, interruption.forbid, say):
        earlier = load_record(folder.record, locked=True)
        if resume == "auto" and earlier and _is_trained(resolved):
            if outcome := _evaluated(folder):
                say(
                    f"{folder.experiment} is finished already, with the same manifest and layouts, in {folder.root}; "
                    "--resume never trains it anew"
                )
                world.first(FINISHED)
                return outcome
            _refuse_without_checkpoint(folder)
            earlier = evolve(earlier, state="interrupted")  # before its end, which is the evaluation
        world.first("")
        trainer = build_trainer(resolved, say, world=world)
        with closing(trainer.data):
            goes_on = go_on(trainer, folder, resolved, earlier, resume, say)
            world.first(_place_of(trainer, goes_on=goes_on))
            recorder = Recorder.start(
                folder.record,
                folder.experiment,
                resolved.sha256,
                trainer.data.fingerprint,
                trainer.epochs,
                earlier if goes_on else None,
            )
            trainer.hooks.add("the run's record", EpochRecorder(recorder))
            with (
                interruption.deferred(),
                recorder.until_finished(),
                limits_named(),
                _saved_where_it_left(folder),
                world.endings_named(),
            ):
                write_text(folder.manifest, resolved.to_toml())
                try:
                    trainer.hooks.run_started(trainer, folder, resolved)
                    trainer.fit(interruption)
                finally:
                    trainer.hooks.run_closed(trainer)
                trainer.go_on_alone()
                outcome = _finish(trainer, folder, resolved, timed=timed)
            world.wait()
            return outcome


def follow_experiment(resolved: ResolvedManifest, world: World, interruption: Interruption) -> None:
    """Train what a manifest describes as one of several processes, of which another is the first.

    It writes nothing and says nothing. Raises UserError and Interrupted as `run_experiment` does, also where the first
    one does.
    """
    if limit := resolved.manifest.train.time_limit:
        interruption.limit(seconds_of(limit))
    if world.first("") == FINISHED:
        return
    trainer = build_trainer(resolved, world.say, world=world)
    with closing(trainer.data):
        if place := world.first(None):
            trainer.model.load_state_dict(place["model"])
            trainer.load_state_dict(place["training"])
        with interruption.deferred(), limits_named(), world.endings_named():
            try:
                trainer.hooks.run_started(trainer, run_folder(resolved), resolved)
                trainer.fit(interruption)
            finally:
                trainer.hooks.run_closed(trainer)
            world.wait()  # until the first one has written what the run leaves


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
            f"{folder.experiment} left ({error}), and nothing is saved that it could go on from, since no callback "
            "saves it; add [callbacks] checkpoint = {}"
        ) from None


def run_folder(resolved: ResolvedManifest) -> RunFolder:
    """Return where the files of an experiment lie, whether there are any or not."""
    output, phase = resolved.manifest.output, resolved.manifest.phase
    return RunFolder(output.experiments / phase.experiment, output.shared / phase.group, phase.experiment)


def is_finished(resolved: ResolvedManifest, data: DataPrint | None = None) -> bool:
    """Whether the run folder holds a finished run of the same manifest and layouts; `data` are these, if known."""
    return _is_trained(resolved, data) and _evaluated(run_folder(resolved)) is not None


def _is_trained(resolved: ResolvedManifest, data: DataPrint | None = None) -> bool:
    record = load_record(run_folder(resolved).record)
    if record is None or record.state != "finished" or record.manifest_sha256 != resolved.sha256:
        return False
    return record.data.same(data or open_print(resolved.manifest.data, resolved.manifest.train))


def _evaluated(folder: RunFolder) -> Outcome | None:
    """Return what evaluation.json says; none where it is missing, damaged or of another version."""
    try:
        return load_outcome(folder.evaluation)
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
        if trainer.tally and time.monotonic() - self._noted >= NOTED_SECONDS:
            self._noted = time.monotonic()
            with suppress(UserError):  # on a full disk, a note for people is not worth waiting for
                within = trainer.tally.batches, trainer.data.steps_per_epoch
                self._recorder.write("running", within=within, patient=False)

    @hookimpl(trylast=True)  # when the checkpoint of the epoch is written
    def epoch_finished(self, trainer: Trainer) -> None:
        self._recorder.write("running", epoch=trainer.epoch)


def build_trainer(
    resolved: ResolvedManifest, say: Say = print, *, whole: bool = False, prepared: bool = True, world: World = ALONE
) -> Trainer:
    """Return the trainer that a manifest describes; all that can be wrong without training is found here.

    With `whole` the layouts are not split: all of them are there to train on, and all to validate. Unless they are
    `prepared`, which pays for whoever reads them all, nothing is written. Where several processes train, callbacks that
    only look on are with the first one alone.
    """
    manifest = resolved.manifest
    _refuse_idle_processes(manifest.train.batch_size, world)
    check_sizes(manifest.data, manifest.encoder)
    seeds = Seeds(manifest.train.seed)
    hooks = RunHooks(
        {
            name: callback.build()
            for name, callback in manifest.callbacks.items()
            if world.is_first or not callback.observer
        }
    )
    source = manifest.data.open()
    model = build_autoencoder(manifest.encoder, manifest.decoder, source.spec, seeds)
    objective = Objective(manifest.losses, model.output_names, source.spec.targets)
    split = everything(source) if whole else split_as(source, manifest.train)
    steps = manifest.train.epochs * steps_per_epoch(len(split.train), manifest.data, manifest.train)
    device = open_device(manifest.machine, 0 if whole else steps, world)
    data = Data(source, manifest.data, manifest.train, seeds, device.workers, split=split, world=world)
    device.place(model)
    objective.place(device)
    device.compile(model.encoder)
    device.compile(model.decoder)
    optimization = Optimization(manifest.train.optimizer, manifest.train.lr_schedule, model, steps, device)
    say(f"data: {source.describe()}; {data.split}")
    if prepared:
        source.prepare(manifest.machine.cache or None, say)
    say(
        f"model: {parameter_count(model.encoder):,} parameters in the encoder, "
        f"{parameter_count(model.decoder):,} in the decoder; {device.device} in {device.precision}"
    )
    if world.size > 1:
        say(
            f"{world.size} processes: each global batch of {manifest.train.batch_size} layouts is shared out, "
            f"{manifest.train.batch_size / world.size:g} to each"
        )
    return Trainer(manifest.train, model, objective, optimization, data, device, hooks)


def _refuse_idle_processes(batch_size: int, world: World) -> None:
    if batch_size < world.size:
        raise UserError(
            f"train.batch_size = {batch_size} is the global batch, of which {world.size} processes would not each have "
            "a layout; start fewer of them"
        )


def _finish(trainer: Trainer, folder: RunFolder, resolved: ResolvedManifest, *, timed: bool) -> Outcome:
    """Evaluate the weights that the run leaves, and write everything that a person looks at."""
    outcome = evaluate(trainer, resolved, folder.root, timed=timed)
    outcome.save(folder.evaluation)
    report.write(outcome, folder.root, resolved, trainer.history)
    folder.share(folder.root / report.PAGE)
    return outcome
