"""Everything that can be wrong with a phase and found without training it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from attrs import field, frozen
from torch import Tensor

from imginav.data.batches import stack
from imginav.data.loader import fingerprint, first_samples, split_as, steps_per_epoch
from imginav.errors import UserError, did_you_mean
from imginav.formatting import format_bytes
from imginav.manifest.config_layers import merge, read_chain
from imginav.manifest.fingerprints import DataFingerprint
from imginav.manifest.resolved import ResolvedManifest, ResolvedPhase
from imginav.manifest.tables import Machine, Manifest
from imginav.manifest.winners import touches
from imginav.model.autoencoder import Autoencoder, check_sizes
from imginav.plugin.components import Dataset, LayoutSource, Sample
from imginav.plugin.data_spec import DataSpec
from imginav.plugin.plugin_faults import plugin_fault, plugin_faults_named
from imginav.plugin.registry import Registry
from imginav.plugin.selector import Selector
from imginav.study.phases import Options, phases_in_order
from imginav.study.selection import (
    common_definition,
    data_key,
    notes_on_winners,
    recorded,
    refuse_strange_winners,
    wrong_direction,
)
from imginav.training.assembly import build_hooks, build_model
from imginav.training.best_epoch import BestEpoch
from imginav.training.device import open_device
from imginav.training.metric_definitions import PART, definitions_of, metric_columns
from imginav.training.objective import Objective

MOST_BYTES_OF_A_LAYOUT = 4 * 2**30
"""Of one layer's output for one layout; the phases' largest has 0.07 GB."""


@frozen
class Checked:
    """What was found in one phase."""

    path: Path
    faults: tuple[str, ...]
    summary: str = ""  # of a phase that is right
    notes: tuple[str, ...] = ()  # what is no fault, and worth knowing

    @property
    def lines(self) -> list[str]:
        """What is right about it, for a terminal."""
        state = f"{len(self.faults)} {'fault' if len(self.faults) == 1 else 'faults'}" if self.faults else "right"
        return [f"{self.path}: {state}{': ' if self.summary else ''}{self.summary}", *(f"  {n}" for n in self.notes)]

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        faults, notes = list(self.faults), list(self.notes)
        return {"path": self.path, "right": not faults, "summary": self.summary, "faults": faults, "notes": notes}


def report_faults(checked: Sequence[Checked]) -> None:
    """Raise UserError with all faults of all phases, if there are any."""
    wrong = [phase for phase in checked if phase.faults]
    if wrong:
        number = sum(len(phase.faults) for phase in wrong)
        lines = [f"{phase.path}: {fault}" for phase in wrong for fault in phase.faults]
        raise UserError("\n".join([f"{number} {'fault' if number == 1 else 'faults'} found", *lines]))


@frozen
class Faults:
    """Gathers what is wrong in a file, each fault once with the experiments that have it."""

    path: Path
    found: dict[str, list[str]] = field(factory=dict)

    @contextmanager
    def of(self, experiment: str = "") -> Iterator[None]:
        """Keep the faults that something inside finds; without an experiment, they are the whole phase's."""
        try:
            with plugin_faults_named():
                yield
        except UserError as error:
            for fault in _within(self.path, error):
                self.add(fault, experiment)

    def add(self, fault: str, experiment: str = "") -> None:
        """Keep a fault."""
        having = self.found.setdefault(fault, [])
        if experiment not in having:
            having.append(experiment)

    def lines(self, everywhere: int) -> tuple[str, ...]:
        """Return each fault, with the experiments in brackets where not all have it."""
        return tuple(
            fault if len(names) >= everywhere or "" in names else f"{fault} [{', '.join(names)}]"
            for fault, names in self.found.items()
        )


def _within(path: Path, error: UserError) -> tuple[str, ...]:
    """Return the faults of an error without the name of the file, which stands before them all."""
    return tuple(fault.removeprefix(f"{path}: ").removeprefix(f"{path} ") for fault in error.faults)


def check_phases(paths: Sequence[Path], registry: Registry, options: Options) -> list[Checked]:
    """Check phases, or folders of them, without training anything and without writing a file."""
    found: list[Checked] = []
    for path in paths:
        if path.is_dir():
            found += _check_folder(path, registry, options)
            continue
        try:
            with plugin_faults_named():
                phase = options.load(path, registry)
                found.append(_check_phase(phase, _beside(phase, registry, options), in_study=False))
        except UserError as error:
            found.append(Checked(path, _within(path, error)))
    return found


def _check_folder(folder: Path, registry: Registry, options: Options) -> Iterator[Checked]:
    try:
        files = phases_in_order(folder)
    except UserError as error:
        yield Checked(folder, _within(folder, error))
        return
    before: dict[str, ResolvedPhase] = {}
    for file in files:
        try:
            with plugin_faults_named():
                phase = options.load(file, registry)
                checked = _check_phase(phase, before, in_study=True)
        except UserError as error:
            yield Checked(file, _within(file, error))
        else:
            yield checked
            before[phase.id] = phase


def _beside(phase: ResolvedPhase, registry: Registry, options: Options) -> dict[str, ResolvedPhase]:
    """Return the phases in the folder of a phase's file whose winners it takes, where they can be loaded."""
    found = {}
    for file in sorted(phase.source.parent.glob("*.toml")):
        with suppress(UserError):  # what is wrong with another file, the check of that one says
            about = merge(read_chain(file))[0].get("phase")
            if isinstance(about, dict) and str(about.get("id")) in phase.winners:
                earlier = options.load(file, registry)
                found[earlier.id] = earlier
    return found


def _check_phase(phase: ResolvedPhase, before: Mapping[str, ResolvedPhase], *, in_study: bool) -> Checked:
    faults = Faults(phase.source)
    opened: dict[str, tuple[LayoutSource, DataFingerprint] | None] = {}
    noted: dict[str, None] = {}  # of the layouts, each sentence once
    for experiment in phase.experiments:
        label = phase.label(experiment)
        key = data_key(experiment)
        if key not in opened:
            opened[key] = None
            with faults.of():
                opened[key] = _open(experiment)
            if opening := opened[key]:
                with faults.of():
                    noted |= dict.fromkeys(filter(None, [opening[0].check_pixels()]))
        data = opened[key]
        _check_experiment(experiment, data[0] if data else None, phase.selector, faults, label)
    # A study runs the earlier phases again by itself, where they need it.
    to_come = Faults(phase.source)
    for data in opened.values():
        if data:
            with (to_come if in_study and set(phase.lineage) <= set(before) else faults).of():
                refuse_strange_winners(phase, data[1])
    if phase.selector:
        with faults.of():
            common_definition(phase, phase.selector.metric)
    _check_winners(phase, before, faults)
    stale = _stale(phase, before)
    if not in_study:  # a study runs the earlier phase again by itself
        for fault in stale:
            faults.add(fault)
    first = next((data for data in opened.values() if data), None)
    summary = ""
    if first and not faults.found:
        number = len(phase.experiments)
        summary = f"{number} {'experiment' if number == 1 else 'experiments'}; {first[1].layouts.description}"
    notes = (
        *phase.notes,
        *noted,
        *notes_on_winners(phase, before if in_study else ()),
        *(stale if in_study else ()),
        *to_come.found,
    )
    return Checked(phase.source, faults.lines(len(phase.experiments)), summary, notes)


def _open(experiment: ResolvedManifest) -> tuple[LayoutSource, DataFingerprint]:
    manifest = experiment.manifest
    source = manifest.data.open()
    _one_sample(source, manifest.data)
    split = split_as(source, manifest.train)
    steps_per_epoch(len(split.train), manifest.data, manifest.train)  # raises where these are too many
    return source, fingerprint(source, manifest.data.image_size, split)


def _check_experiment(
    experiment: ResolvedManifest, source: LayoutSource | None, selector: Selector | None, faults: Faults, label: str
) -> None:
    """Build what the experiment would build, and put one layout through it; each fault is found by itself."""
    manifest = experiment.manifest
    fits = False
    with faults.of(label):
        check_sizes(manifest.data, manifest.encoder)
        fits = True
    with faults.of(label):
        open_device(manifest.machine)
    with faults.of(label):
        build_hooks(manifest)
    if source is None:
        return
    model: Autoencoder | None = None
    with faults.of(label):
        model = build_model(manifest, source.spec)
    if model is None:
        return
    outputs, batch = None, _batch_of_one(source, manifest.data)
    if fits:
        with faults.of(label):
            _refuse_too_large(manifest, source.spec)
            outputs = _outputs(model, batch)
    for name, loss in manifest.losses.items():
        with faults.of(label):
            objective = Objective({name: loss}, model.output_names, source.spec.targets)
            if outputs is not None:
                _try_loss(name, objective, outputs, batch)
    _check_metrics(experiment, model, selector, faults, label)
    for probe in manifest.evaluation.probes.values():
        with faults.of(label):
            probe.check(manifest.data.window)
    with faults.of(label):
        manifest.train.optimizer.build(model)


def _check_metrics(
    experiment: ResolvedManifest, model: Autoencoder, selector: Selector | None, faults: Faults, label: str
) -> None:
    """Look for what is monitored, and what the selector compares, among the metrics of a run."""
    train = experiment.manifest.train
    weights = {name: loss.weight for name, loss in experiment.manifest.losses.items()}
    columns = metric_columns(weights, model.output_names)
    with faults.of(label):
        BestEpoch(train.monitor, train.monitor_mode, columns)
    # Of the weights that a run leaves, there are no training metrics.
    figures = definitions_of(experiment.manifest.evaluation)
    known = list(dict.fromkeys([name for name in columns if name.startswith(PART)] + list(figures)))
    if selector and (wrong := wrong_direction(selector, experiment)):
        faults.add(wrong, label)
    for setting, metric in (selector.metrics if selector else {}).items():
        if metric not in known:
            faults.add(
                f"sweep.selector.{setting} = {metric!r} is no metric that experiments are compared by"
                f"{did_you_mean(metric, known)}; these are {', '.join(known)}",
                label,
            )


def _batch_of_one(source: LayoutSource, dataset: Dataset) -> dict[str, Tensor]:
    """Return one whole layout as a batch on the CPU."""
    return open_device(Machine(device="cpu")).batch(stack([_one_sample(source, dataset)], source.spec.palette))


@torch.no_grad()
def _refuse_too_large(manifest: Manifest, spec: DataSpec) -> None:
    """Put a layout through the network on a device without memory, before this machine's is asked for it."""
    sizes: list[int] = []
    side = manifest.data.image_size
    with torch.device("meta"), suppress(RuntimeError):  # a network that looks into its own weights cannot be there
        model = build_model(manifest, spec)
        for module in model.modules():
            module.register_forward_hook(lambda _module, _inputs, output: sizes.append(_bytes_of(output)))
        model(torch.empty(1, 3, side, side))
    if (largest := max(sizes, default=0)) > MOST_BYTES_OF_A_LAYOUT:
        raise UserError(
            f"data.image_size = {side} with this network takes {format_bytes(largest)} for one layer's output of a "
            f"single layout; {format_bytes(MOST_BYTES_OF_A_LAYOUT)} are the most: lower data.image_size or "
            "encoder.base_channels"
        )


def _one_sample(source: LayoutSource, dataset: Dataset) -> Sample:
    """Return the first layout, or the first that can be read; raises UserError where there is none."""
    samples, unreadable = first_samples(source, range(len(source)), 1)
    if unreadable and (dataset.on_bad == "error" or not samples):
        raise UserError(unreadable[0].reason)
    return samples[0]


def _bytes_of(output: object) -> int:
    return output.nbytes if isinstance(output, Tensor) else 0


@torch.no_grad()
def _outputs(model: Autoencoder, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a layout through the model."""
    try:
        outputs: dict[str, Tensor] = model(batch["rgb"])
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(f"a layout cannot be put through the network: {_reason(error)}") from error
    return outputs


@torch.no_grad()
def _try_loss(name: str, loss: Objective, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
    """Put the outputs of a layout through a loss."""
    try:
        loss(outputs, batch)
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(f"losses.{name}: a layout cannot be put through it: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return plugin_fault(error) or " ".join(str(error).split())[:300]


def _check_winners(phase: ResolvedPhase, before: Mapping[str, ResolvedPhase], faults: Faults) -> None:
    """Compare what the phase takes with what the earlier phases vary, where their files are checked, too."""
    for earlier, keys in phase.winners.items():
        if earlier not in before or not before[earlier].varied:
            continue
        varied = before[earlier].varied
        for key in keys:
            if not any(touches(key, other) for other in varied):
                faults.add(
                    f"[winners] takes {key!r} from phase {earlier}, which varies {', '.join(varied)}; take one of them"
                )


def _stale(phase: ResolvedPhase, before: Mapping[str, ResolvedPhase]) -> list[str]:
    """Return which recorded winners were found with other values than the phases' files now have."""
    notes = []
    for earlier in phase.lineage:
        now = before.get(earlier)
        winner = recorded(now) if now else None
        if now and winner and winner.manifest_sha256 != now.sha256:
            notes.append(
                f"the winner of phase {earlier}, {winner.winner}, was found with other values than {now.source} now "
                f"has: imginav run {now.source}"
            )
    return notes
