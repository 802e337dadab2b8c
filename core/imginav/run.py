"""One experiment, from a resolved manifest to what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

from attrs import evolve

from imginav import report
from imginav.autoencoder import build_autoencoder, check_sizes, parameter_count
from imginav.checks import seconds_of
from imginav.data import Data, everything, open_print, split_as, steps_per_epoch
from imginav.device import limits_named, open_device
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

NOTED_SECONDS = 15.0
"""Between two notes of the place within an epoch."""


def run_experiment(
    resolved: ResolvedManifest,
    say: Say = print,
    *,
    resume: Resume = "auto",
    interruption: Interruption | None = None,
    timed: bool = True,
) -> Outcome:
    """Train what a manifest describes, and leave all deliverables in its run folder.

    With `auto`, a finished run of the same manifest and layouts is left as it is, one that is not finished goes on
    from its last checkpoint, and any other is moved aside. Without `timed` its latency is not measured: beside other
    work it would mean nothing. `say` takes the lines for people. Raises UserError for what a user can mend, as early
    as it can be known, and Interrupted where it is asked to leave, with what it needs to go on saved.
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
                return outcome
            _refuse_without_checkpoint(folder)
            earlier = evolve(earlier, state="interrupted")  # before its end, which is the evaluation
        trainer = build_trainer(resolved, say)
        with closing(trainer.data):
            goes_on = go_on(trainer, folder, resolved, earlier, resume, say)
            recorder = Recorder.start(
                folder.record,
                folder.experiment,
                resolved.sha256,
                trainer.data.fingerprint,
                trainer.epochs,
                earlier if goes_on else None,
            )
            trainer.hooks.add("the run's record", EpochRecorder(recorder))
            with interruption.deferred(), recorder.until_finished(), limits_named(), _saved_where_it_left(folder):
                write_text(folder.manifest, resolved.to_toml())
                try:
                    trainer.hooks.run_started(trainer, folder, resolved)
                    trainer.fit(interruption)
                finally:
                    trainer.hooks.run_closed(trainer)
                return _finish(trainer, folder, resolved, timed=timed)


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
    resolved: ResolvedManifest, say: Say = print, *, whole: bool = False, prepared: bool = True
) -> Trainer:
    """Return the trainer that a manifest describes; all that can be wrong without training is found here.

    With `whole` the layouts are not split: all of them are there to train on, and all to validate. Unless they are
    `prepared`, which pays for whoever reads them all, nothing is written.
    """
    manifest = resolved.manifest
    check_sizes(manifest.data, manifest.encoder)
    seeds = Seeds(manifest.train.seed)
    hooks = RunHooks({name: callback.build() for name, callback in manifest.callbacks.items()})
    source = manifest.data.open()
    model = build_autoencoder(manifest.encoder, manifest.decoder, source.spec, seeds)
    objective = Objective(manifest.losses, model.output_names, source.spec.targets)
    split = everything(source) if whole else split_as(source, manifest.train)
    steps = manifest.train.epochs * steps_per_epoch(len(split.train), manifest.data, manifest.train)
    device = open_device(manifest.machine, 0 if whole else steps)
    data = Data(source, manifest.data, manifest.train, seeds, device.workers, split=split)
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
    return Trainer(manifest.train, model, objective, optimization, data, device, hooks)


def _finish(trainer: Trainer, folder: RunFolder, resolved: ResolvedManifest, *, timed: bool) -> Outcome:
    """Evaluate the weights that the run leaves, and write everything that a person looks at."""
    outcome = evaluate(trainer, resolved, folder.root, timed=timed)
    outcome.save(folder.evaluation)
    report.write(outcome, folder.root, resolved, trainer.history)
    folder.share(folder.root / report.PAGE)
    return outcome
