"""One experiment, from a resolved manifest to what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from imginav import report
from imginav.autoencoder import build_autoencoder, check_sizes, parameter_count
from imginav.data import Data
from imginav.device import open_device
from imginav.evaluation import flat_background_mse
from imginav.hookspecs import RunHooks
from imginav.loading import ResolvedManifest
from imginav.objective import Objective
from imginav.optimization import Optimization
from imginav.report import Outcome
from imginav.rundir import RunFolder, open_run_folder, write_text
from imginav.seeds import Seeds
from imginav.trainer import Trainer

Say = Callable[[str], None]


def run_experiment(resolved: ResolvedManifest, say: Say = print) -> Outcome:
    """Train what a manifest describes, and leave all deliverables in its run folder.

    `say` takes the lines for people. Raises UserError for what a user can mend, as early as it can be known.
    """
    trainer = build_trainer(resolved, say)
    manifest = resolved.manifest
    folder, moved = open_run_folder(
        manifest.output.experiments, manifest.output.shared, manifest.phase.experiment, manifest.phase.group
    )
    if moved:
        say(f"the earlier run is kept in {moved}")
    write_text(folder.manifest, resolved.to_toml())
    with closing(trainer.data):
        try:
            trainer.hooks.run_started(trainer, folder, resolved)
            trainer.fit()
        finally:
            trainer.hooks.run_closed(trainer)
        return _finish(trainer, folder, resolved)


def build_trainer(resolved: ResolvedManifest, say: Say = print) -> Trainer:
    """Return the trainer that a manifest describes; all that can be wrong without training is found here."""
    manifest = resolved.manifest
    if resolved.trial:
        say(
            f"trial scale, as {resolved.source} says under [trial]: {manifest.train.epochs} epochs; --full trains at "
            "full scale, and [data] in imginav.toml names layouts of your own"
        )
    check_sizes(manifest.data, manifest.encoder)
    seeds = Seeds(manifest.train.seed)
    device = open_device(manifest.machine)
    hooks = RunHooks({name: callback.build() for name, callback in manifest.callbacks.items()})
    source = manifest.data.open()
    model = build_autoencoder(manifest.encoder, manifest.decoder, source.spec, seeds)
    objective = Objective(manifest.losses, model.output_names, source.spec.targets)
    data = Data(source, manifest.data, manifest.train, seeds, device.workers)
    device.place(model)
    objective.place(device)
    if manifest.machine.compile:
        # In place, so that the names of the weights in checkpoints stay as they are.
        model.encoder.compile()
        model.decoder.compile()
    optimization = Optimization(
        manifest.train.optimizer,
        manifest.train.lr_schedule,
        model,
        manifest.train.epochs * data.steps_per_epoch,
        device,
    )
    split = data.split
    say(f"data: {source.describe()}; {len(split.train)} train, {len(split.validation)} validate, split by {split.by}")
    say(
        f"model: {parameter_count(model.encoder):,} parameters in the encoder, "
        f"{parameter_count(model.decoder):,} in the decoder; {device.device} in {device.precision}"
    )
    return Trainer(manifest.train, model, objective, optimization, data, device, hooks)


def _finish(trainer: Trainer, folder: RunFolder, resolved: ResolvedManifest) -> Outcome:
    """Evaluate the weights that the run leaves, and write everything that a person looks at."""
    metrics = trainer.validate()
    palette = trainer.data.source.spec.palette
    size = trainer.data.image_size // resolved.manifest.encoder.downsampling_factor
    outcome = Outcome(
        title=f"Phase {resolved.manifest.phase.id} · {resolved.manifest.phase.title}",
        experiment=folder.experiment,
        weights_epoch=trainer.weights_epoch,
        epochs=trainer.epoch,
        stop_reason=trainer.stop_reason or "all epochs done",
        best_epoch=trainer.best.epoch,
        monitor=trainer.best.metric,
        metrics=metrics,
        flat_background_mse=flat_background_mse(trainer.data.validation_batches(), palette, trainer.device),
        latent=(size, size, resolved.manifest.encoder.latent_channels),
        encoder_parameters=parameter_count(trainer.model.encoder),
        decoder_parameters=parameter_count(trainer.model.decoder),
        train_layouts=len(trainer.data.split.train),
        validation_layouts=len(trainer.data.split.validation),
        split_by=trainer.data.split.by,
        trial=resolved.trial,
    )
    report.write(outcome, trainer, folder, resolved)
    return outcome
