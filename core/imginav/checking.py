"""Everything that can be wrong with a phase and found without training it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from attrs import field, frozen

from imginav.autoencoder import Autoencoder, build_autoencoder, check_sizes
from imginav.best import Best
from imginav.components import LayoutSource
from imginav.data import fingerprint, split_as, stack, to_tensors
from imginav.device import open_device
from imginav.errors import UserError
from imginav.evaluation import metric_columns
from imginav.fingerprints import DataPrint
from imginav.hookspecs import RunHooks
from imginav.loading import ResolvedManifest, ResolvedPhase
from imginav.manifest import Machine
from imginav.objective import Objective
from imginav.registry import Registry
from imginav.seeds import Seeds
from imginav.selection import common_definition, data_key, notes_on_winners, recorded, refuse_strange_winners
from imginav.study import Options, phases_in_order
from imginav.winners import touches


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


def report_faults(checked: Sequence[Checked]) -> None:
    """Raise UserError with all faults of all phases, if there are any."""
    wrong = [phase for phase in checked if phase.faults]
    if wrong:
        number = sum(len(phase.faults) for phase in wrong)
        lines = [f"{phase.path}: {fault}" for phase in wrong for fault in phase.faults]
        raise UserError("\n".join([f"{number} {'fault' if number == 1 else 'faults'} found", *lines]))


@frozen
class Faults:
    """Gathers what is wrong, each fault once with the experiments that have it."""

    found: dict[str, list[str]] = field(factory=dict)

    @contextmanager
    def of(self, experiment: str = "") -> Iterator[None]:
        """Keep the fault that something inside finds."""
        try:
            yield
        except UserError as error:
            self.found.setdefault(str(error), []).append(experiment)

    def lines(self, everywhere: int) -> tuple[str, ...]:
        """Return each fault, with the experiments in brackets where not all have it."""
        return tuple(
            text if len(names) >= everywhere or names == [""] else f"{text} [{', '.join(names)}]"
            for text, names in self.found.items()
        )


def check(paths: Sequence[Path], registry: Registry, options: Options) -> list[Checked]:
    """Check phases, or folders of them, without training anything and without writing a file."""
    found = []
    for path in paths:
        others: dict[str, ResolvedPhase] = {}  # the phases before it in its folder
        for file in phases_in_order(path) if path.is_dir() else [*_before(path), path]:
            checked_too = path.is_dir() or file == path
            try:
                phase = options.load(file, registry)
            except UserError as error:
                if checked_too:
                    found.append(Checked(file, (str(error).removeprefix(f"{file}: "),)))
                continue
            if checked_too:
                found.append(_check_phase(phase, others, in_study=path.is_dir()))
            others[phase.id] = phase
    return found


def _before(path: Path) -> list[Path]:
    """Return the phases of a file's folder that come before it, where these can be told."""
    try:
        files = phases_in_order(path.parent)
    except UserError:
        return []
    same = [number for number, file in enumerate(files) if path.exists() and file.samefile(path)]
    return files[: same[0]] if same else []


def _check_phase(phase: ResolvedPhase, before: dict[str, ResolvedPhase], *, in_study: bool) -> Checked:
    faults = Faults()
    opened: dict[str, tuple[LayoutSource, DataPrint] | None] = {}
    for experiment in phase.experiments:
        label = phase.label(experiment)
        key = data_key(experiment)
        if key not in opened:
            opened[key] = None
            with faults.of():
                opened[key] = _open(experiment)
        data = opened[key]
        _check_experiment(experiment, data[0] if data else None, faults, label)
    for data in opened.values():
        if data:
            with faults.of():
                refuse_strange_winners(phase, data[1])
    if phase.selector:
        with faults.of():
            common_definition(phase, phase.selector.metric)
    _check_winners(phase, before, faults)
    stale = _stale(phase, before)
    if not in_study:  # a study runs the earlier phase again by itself
        faults.found.update({text: [""] for text in stale})
    first = next((data for data in opened.values() if data), None)
    summary = ""
    if first and not faults.found:
        number = len(phase.experiments)
        summary = f"{number} {'experiment' if number == 1 else 'experiments'}; {first[1].layouts.description}"
    notes = (*notes_on_winners(phase, before if in_study else ()), *(stale if in_study else ()))
    return Checked(phase.source, faults.lines(len(phase.experiments)), summary, notes)


def _open(experiment: ResolvedManifest) -> tuple[LayoutSource, DataPrint]:
    manifest = experiment.manifest
    source = manifest.data.open()
    source.read(0)
    return source, fingerprint(source, manifest.data.image_size, split_as(source, manifest.train))


def _check_experiment(experiment: ResolvedManifest, source: LayoutSource | None, faults: Faults, label: str) -> None:
    """Build what the experiment would build, and put one layout through it; each fault is found by itself."""
    manifest = experiment.manifest
    sizes = Faults()
    with sizes.of():
        check_sizes(manifest.data, manifest.encoder)
    for text in sizes.found:
        faults.found.setdefault(text, []).append(label)
    with faults.of(label):
        open_device(manifest.machine)
    with faults.of(label):
        RunHooks({name: callback.build() for name, callback in manifest.callbacks.items()})
    if source is None:
        return
    model: Autoencoder | None = None
    with faults.of(label):
        model = build_autoencoder(manifest.encoder, manifest.decoder, source.spec, Seeds(manifest.train.seed))
    if model is None:
        return
    objective: Objective | None = None
    for name, loss in manifest.losses.items():
        with faults.of(label):
            objective = Objective({name: loss}, model.output_names, source.spec.targets)
    with faults.of(label):
        objective = Objective(manifest.losses, model.output_names, source.spec.targets)
        Best(manifest.train.monitor, manifest.train.monitor_mode, metric_columns(objective, model))
    with faults.of(label):
        manifest.train.optimizer.build(model)
    if objective is not None and not sizes.found:
        with faults.of(label):
            _try(model, objective, source)


@torch.no_grad()
def _try(model: Autoencoder, objective: Objective, source: LayoutSource) -> None:
    """Put one layout through the model and the losses on the CPU."""
    device = open_device(Machine(device="cpu"))
    batch = device.batch(stack([to_tensors(source.read(0))]))
    try:
        objective(model(batch["rgb"]), batch)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"a layout cannot be put through the network and its losses: {reason}") from error


def _check_winners(phase: ResolvedPhase, before: dict[str, ResolvedPhase], faults: Faults) -> None:
    """Compare what the phase takes with what the earlier phases vary, where their files are checked, too."""
    for earlier, keys in phase.winners.items():
        if earlier not in before or not before[earlier].varied:
            continue
        varied = before[earlier].varied
        for key in keys:
            if not any(touches(key, other) for other in varied):
                faults.found.setdefault(
                    f"[winners] takes {key!r} from phase {earlier}, which varies {', '.join(varied)}; take one of them",
                    [""],
                )


def _stale(phase: ResolvedPhase, before: dict[str, ResolvedPhase]) -> list[str]:
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
