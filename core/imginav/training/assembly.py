"""A model with its losses, its data and its device: what training, evaluating, checking and planning build alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from attrs import frozen

from imginav.data.loader import Data, everything, passes_per_epoch, split_as, steps_per_epoch
from imginav.manifest.tables import Manifest
from imginav.model.autoencoder import Autoencoder, build_autoencoder, check_outputs, check_sizes, parameter_count
from imginav.plugin.components import LayoutSource
from imginav.plugin.data_spec import DataSpec
from imginav.processes.distributed import ALONE, World
from imginav.seeds import Seeds
from imginav.training.device import Device, open_device
from imginav.training.objective import Objective
from imginav.training.run_hooks import RunHooks

Log = Callable[[str], None]


@frozen(kw_only=True)
class Assembly:
    """The parts that a manifest describes, on their device; the model is freshly initialised."""

    model: Autoencoder
    objective: Objective
    data: Data
    device: Device
    steps: int  # optimizer steps of the whole training; 0 where nothing is trained


def assemble(
    manifest: Manifest,
    log: Log = print,
    *,
    trains: bool = True,
    whole: bool = False,
    prepared: bool = True,
    world: World = ALONE,
) -> Assembly:
    """Build the parts that a manifest describes; raises UserError for all that can be wrong without training.

    Where nothing `trains`, networks are compiled only if the manifest says so. With `whole` the layouts are not split:
    all of them are there to train on, and all to validate. Unless they are `prepared`, which pays for whoever reads
    them all, nothing is written. `log` takes lines for people.
    """
    check_sizes(manifest.data, manifest.encoder)
    source = manifest.data.open()
    noted = source.check_pixels() if trains else ""
    model = build_model(manifest, source.spec)
    objective = Objective(manifest.losses, model.output_names, source.spec.targets)
    model.train_for(objective.outputs, objective.in_patches)
    split = everything(source) if whole else split_as(source, manifest.train)
    epochs = manifest.train.epochs if trains else 0
    steps = epochs * steps_per_epoch(len(split.train), manifest.data, manifest.train)
    if trains:
        _check_outputs(model, manifest)
    device = open_device(manifest.machine, steps, world)
    seeds = Seeds(manifest.train.seed)
    data = Data(source, manifest.data, manifest.train, seeds, device.workers, split=split, world=world)
    device.place(model)
    objective.place(device)
    device.compile(model.encoder)
    device.compile(model.decoder)
    _describe(source, data, model, device, log)
    if trains and (passes := passes_per_epoch(len(split.train), manifest.data, manifest.train)) > 1:
        log(
            f"each epoch passes {passes} times over the {len(split.train):,} training layouts, which makes "
            f"{data.steps_per_epoch:,} steps: train.min_epoch_steps = {manifest.train.min_epoch_steps}"
        )
    if noted:
        log(f"note: {noted}")
    if prepared:
        source.prepare(manifest.machine.cache or None, log)
        if trains and manifest.machine.layouts != "host":
            data.keep_on_device(device.device, manifest.machine.layouts)
    return Assembly(model=model, objective=objective, data=data, device=device, steps=steps)


def _check_outputs(model: Autoencoder, manifest: Manifest) -> None:
    """Put a black image through the network, which changes nothing of it, to see that the shapes are right."""
    side = manifest.data.crop or manifest.data.image_size
    model.eval()
    with torch.random.fork_rng(devices=[]):
        check_outputs(model, manifest.encoder, torch.full((1, 3, side, side), -1.0))
    model.train()


def build_model(manifest: Manifest, spec: DataSpec) -> Autoencoder:
    """Return the freshly initialised autoencoder of a manifest; raises UserError where it cannot be built."""
    return build_autoencoder(manifest.encoder, manifest.decoder, spec, Seeds(manifest.train.seed))


def build_hooks(manifest: Manifest, world: World = ALONE) -> RunHooks:
    """Return the hooks of a manifest's callbacks; with several processes, observing ones are with the first alone."""
    return RunHooks(
        {
            name: callback.build()
            for name, callback in manifest.callbacks.items()
            if world.is_first or not callback.observer
        }
    )


def _describe(source: LayoutSource, data: Data, model: Autoencoder, device: Device, log: Log) -> None:
    log(f"data: {source.describe()}; {data.split}")
    log(
        f"model: {parameter_count(model.encoder):,} parameters in the encoder, "
        f"{parameter_count(model.decoder):,} in the decoder; {device.device} in {device.precision}"
    )
