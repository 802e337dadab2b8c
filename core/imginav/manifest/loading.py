"""From a phase's TOML file to the manifests of its experiments, with the origin of every value."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from imginav.errors import UserError
from imginav.manifest.config_layers import ConfigLayer, Keys, expand, leaves, merge, read_chain, setting, value_at
from imginav.manifest.faults import Faults
from imginav.manifest.profiles import Profile, profiles_of
from imginav.manifest.reading import MOST_VALUES
from imginav.manifest.resolution import RESOLVED, resolution_of
from imginav.manifest.resolved import LINEAGE, ResolvedManifest, ResolvedPhase
from imginav.manifest.site import SITE_FILE, _site_layer
from imginav.manifest.structuring import Fault, Structurer, StructuringError, Table
from imginav.manifest.sweeps import changes_of, values_of
from imginav.manifest.tables import PLAN_TABLES, Manifest, Output, Plan
from imginav.manifest.winners import Winner, find_winner, take
from imginav.plugin.components import Dataset, LRSchedule, Metric, Optimizer
from imginav.plugin.registry import Registry

Scale = Literal["auto", "full", "trial", "quick"]

TRIAL_TABLES = ("trial", "quick")
"""What a phase changes at trial scale, and in a trial that is to be quick beside."""


def load(
    path: Path,
    registry: Registry,
    *,
    site: Path | None = None,
    settings: Sequence[str] = (),
    scale: Scale = "auto",
    use_site: bool = True,
    tables: dict[str, Any] | None = None,
) -> ResolvedManifest:
    """Read the manifest of a single experiment, such as the one that a run folder holds; see `load_phase`."""
    phase = load_phase(path, registry, site=site, settings=settings, scale=scale, use_site=use_site, tables=tables)
    if len(phase.experiments) > 1:
        raise UserError(f"{path}: has {len(phase.experiments)} experiments ({', '.join(phase.names)}); name one")
    return phase.experiments[0]


def load_phase(
    path: Path,
    registry: Registry,
    *,
    site: Path | None = None,
    settings: Sequence[str] = (),
    scale: Scale = "auto",
    require_winners: bool = False,
    use_site: bool = True,
    tables: dict[str, Any] | None = None,
) -> ResolvedPhase:
    """Read a phase's manifest and resolve each of its experiments.

    Over each other lie, from the bottom: the files that it extends, the phase's file, the site file, [trial], the
    winners of earlier phases, what the experiment changes, and the settings (`key=value`) of the command line. Raises
    UserError with all faults of all files and experiments at once, and with `require_winners` where one is missing.
    Without `use_site` a site file counts where it is named, and the one of the working folder does not. With `tables`,
    these are the phase's file, which was read already, and `path` is its name in messages.
    """
    structurer, faults = _structurer_of(registry), Faults(path)
    site = site or (SITE_FILE if use_site and SITE_FILE.is_file() else None)
    files = read_chain(path) if tables is None else [ConfigLayer(str(path), tables)]
    below, inherited = _read(files, site, structurer, faults)
    below.insert(0, _installed_metrics(registry))
    command_line = [setting(text) for text in settings]
    embedded = _is_embedded([*below, *command_line], registry)
    below, in_trial = _with_trial(below, scale, path, embedded=embedded)
    plan, output, profiles = _plan([*below, *command_line], structurer, faults)
    below, command_line = _without_plan(below), _without_plan(command_line)
    lineage, not_taken = _lineage(path, plan, output, structurer, embedded=embedded, require_winners=require_winners)
    below += [
        ConfigLayer(winner.summary, expand(take(winner, plan.winners[phase], str(path)), f"{path} [winners]"))
        for phase, winner in lineage.items()
    ]
    common = merge([*below, *command_line])[0]
    if (own := value_at(common, ("phase", "id"))) in list(plan.winners):
        raise UserError(f"{path}: [winners] takes from phase {own}, which is this phase itself; take it out")
    changes = changes_of(plan.sweep, common, path)
    if (values := len(changes) * sum(1 for _ in leaves(common))) > MOST_VALUES:
        raise UserError(
            f"{path}: its experiments have {values:,} values, more than {MOST_VALUES:,}; take fewer of them"
        )
    varied = _shortest(dict.fromkeys(key for change in changes for key in change.varied))
    seeds = ["train.seed"] if plan.sweep and plan.sweep.seeds else []
    _refuse_settings_of([*varied, *seeds], command_line, path)
    experiments: list[ResolvedManifest] = []
    notes: dict[str, None] = {}
    for change in changes:
        merged, origins = merge([*below, *change.layers, *command_line])
        notes |= dict.fromkeys(_drop_tuned(merged, origins))
        with faults.gathered(origins):
            manifest = structurer.structure(merged, Manifest)
            resolved = structurer.unstructure(manifest)
            _refuse_dots(resolved)
            experiments.append(
                ResolvedManifest(
                    manifest=manifest,
                    tables=resolved,
                    origins={".".join(key): origins.get(key, "default") for key, _ in leaves(resolved)},
                    source=path,
                    trial=in_trial,
                    name=change.name,
                    changes=values_of(resolved, varied),
                    lineage=inherited | lineage,
                )
            )
        if faults.enough:
            break
    faults.stop_if_any()
    _refuse_twins(experiments, path)
    return ResolvedPhase(
        source=path,
        base=common["phase"]["experiment"],
        experiments=tuple(experiments),
        selector=plan.sweep.selector if plan.sweep else None,
        varied=varied,
        winners=plan.winners,
        lineage=lineage,
        not_taken=not_taken,
        notes=tuple(notes),
        profiles=profiles,
        structurer=structurer,
    )


@functools.lru_cache(maxsize=4)
def _structurer_of(registry: Registry) -> Structurer:
    """Return the structurer of a registry; it makes its functions once, and they take most of the time."""
    return Structurer(registry)


def _read(
    files: Sequence[ConfigLayer], site: Path | None, structurer: Structurer, faults: Faults
) -> tuple[list[ConfigLayer], dict[str, Winner]]:
    """Return the layers of a phase's files and of the site, and the winners that a resolved manifest rests on."""
    inherited: dict[str, Winner] = {}
    for file in files:  # what a resolved manifest says of itself is no value, but has to be right
        with faults.gathered({}):
            resolution_of("", {key: file.tables.pop(key) for key in (RESOLVED,) if key in file.tables})
    with faults.gathered({}, (LINEAGE,)):
        inherited = structurer.structure(files[-1].tables.pop(LINEAGE, {}), dict[str, Winner])
    return [*files, *_site_layer(site)], inherited


def _installed_metrics(registry: Registry) -> ConfigLayer:
    """Return the layer in which each installed metric is measured as it is, unless a file says otherwise."""
    names = [registration.name for registration in registry if registration.kind == Metric.kind]
    return ConfigLayer("installed", {"evaluation": {"metrics": {name: {"type": name} for name in names}}})


def _with_trial(
    layers: Sequence[ConfigLayer], scale: Scale, path: Path, *, embedded: bool
) -> tuple[list[ConfigLayer], bool]:
    """Return the layers, with their [trial] tables over them at trial scale, and whether that is the scale.

    A quick trial has their [quick] tables over all of them.
    """
    over = {
        table: [
            ConfigLayer(f"{layer.origin} [{table}]", expand(layer.tables.pop(table), f"{layer.origin} [{table}]"))
            for layer in layers
            if table in layer.tables
        ]
        for table in TRIAL_TABLES
    }
    if scale in over and not over[scale]:
        raise UserError(
            f"--{scale}: {path} has no [{scale}] table to say what a trial changes; run it without --{scale}"
        )
    in_trial = scale in over or (scale == "auto" and embedded and bool(over["trial"]))
    shown = [*(over["trial"] if in_trial else ()), *(over["quick"] if scale == "quick" else ())]
    return [*layers, *shown], in_trial


def _lineage(
    path: Path, plan: Plan, output: Output, structurer: Structurer, *, embedded: bool, require_winners: bool
) -> tuple[dict[str, Winner], dict[str, Winner]]:
    """Return the recorded winners of the phases that a phase takes values from, and those that it does not take.

    What won on embedded layouts says nothing about a user's own, nor the other way round.
    """
    known = {phase: winner for phase in plan.winners if (winner := find_winner(phase, output.shared, structurer))}
    found = {phase: winner for phase, winner in known.items() if winner.embedded in (None, embedded)}
    if require_winners and (missing := [phase for phase in plan.winners if phase not in found]):
        raise UserError(
            f"{path}: --require-winners: {output.shared} holds no winner of phase {', '.join(missing)}; run it first"
        )
    return found, {phase: winner for phase, winner in known.items() if phase not in found}


def _plan(
    layers: Sequence[ConfigLayer], structurer: Structurer, faults: Faults
) -> tuple[Plan, Output, tuple[Profile, ...]]:
    """Return what a phase says about its experiments, where files go and where jobs run; faults go to the faults."""
    tables, origins = merge(layers)
    said = {key: tables[key] for key in PLAN_TABLES if tables.get(key, False) is not False}
    # `false` takes out what a file further down has put in.
    if isinstance(winners := said.get("winners"), dict):
        said["winners"] = {phase: keys for phase, keys in winners.items() if keys is not False}
    if isinstance(sweep := said.get("sweep"), dict) and isinstance(experiments := sweep.get("experiments"), dict):
        kept = {name: changed for name, changed in experiments.items() if changed is not False}
        said["sweep"] = {**sweep, "experiments": kept}
    plan, output = Plan(), Output()
    profiles: tuple[Profile, ...] = ()
    with faults.gathered(origins):
        plan = structurer.structure(said, Plan)
        profiles = profiles_of(plan.cluster, said.get("cluster", {}), structurer)
    with faults.gathered(origins, ("output",)):
        output = structurer.structure(tables.get("output", {}), Output)
    return plan, output, profiles


def _without_plan(layers: Sequence[ConfigLayer]) -> list[ConfigLayer]:
    return [
        ConfigLayer(layer.origin, {key: table for key, table in layer.tables.items() if key not in PLAN_TABLES})
        for layer in layers
    ]


def _is_embedded(layers: Sequence[ConfigLayer], registry: Registry) -> bool:
    """Whether the layouts are embedded, which need no files."""
    data = merge(layers)[0].get("data")
    try:
        dataset = registry.find(Dataset.kind, data["type"]) if isinstance(data, dict) else None
    except (LookupError, TypeError):
        return False  # what is wrong with the table is said when it is structured
    return bool(dataset and issubclass(dataset, Dataset) and dataset.embedded)


def _drop_tuned(tables: Table, origins: dict[Keys, str]) -> Iterator[str]:
    """Take out what was tuned for another type of optimizer or schedule than a later layer names, and say so."""
    for kind in (Optimizer.kind, LRSchedule.kind):
        table = value_at(tables, ("train", kind))
        if isinstance(table, Table) and (dropped := [key for key in table if key in table.inherited]):
            values = ", ".join(f"{key} = {table.pop(key)!r}" for key in dropped)
            for key in dropped:
                origins.pop(("train", kind, key), None)
            yield f"train.{kind}.type = {table['type']!r}: without {values}, which another type was tuned with"


def _shortest(keys: Iterable[str]) -> tuple[str, ...]:
    """Leave out the dotted keys that lead into what another one names as a whole."""
    known = list(keys)
    return tuple(key for key in known if not any(key.startswith(f"{other}.") for other in known))


def _refuse_dots(tables: Mapping[str, Any]) -> None:
    """Every value is known by the keys that lead to it with dots between them, so a dot within one leads nowhere."""
    if wrong := [keys for keys, _ in leaves(tables) if any("." in key for key in keys)]:
        raise StructuringError([Fault(keys, "expected keys without dots in them; rename it") for keys in wrong])


def _refuse_settings_of(varied: Sequence[str], command_line: Sequence[ConfigLayer], path: Path) -> None:
    """A setting over what the experiments vary would make them all the same, under names that say otherwise."""
    for layer in command_line:
        for key, _ in leaves(layer.tables):
            for other in (name.split(".") for name in varied):
                if all(a == b for a, b in zip(key, other, strict=False)):
                    raise UserError(
                        f"--set {'.'.join(key)}: the experiments of {path} differ in {'.'.join(other)}; take one of "
                        "them with --only, or change what they vary in the file"
                    )


def _refuse_twins(experiments: Sequence[ResolvedManifest], path: Path) -> None:
    seen: dict[str, ResolvedManifest] = {}
    for experiment in experiments:
        if twin := seen.get(experiment.sha256):
            raise UserError(
                f"{path}: the experiments {twin.name} and {experiment.name} are the same, value by value; change one "
                "of them, or take it out"
            )
        seen[experiment.sha256] = experiment
    folders = Counter(experiment.manifest.phase.experiment.casefold() for experiment in experiments)
    if doubled := sorted(name for name, number in folders.items() if number > 1):  # some disks know no capitals
        raise UserError(f"{path}: two experiments would have the same run folder {doubled[0]}; rename one of them")
