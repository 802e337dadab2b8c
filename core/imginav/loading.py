"""From a phase's TOML file to the manifests of its experiments, with the origin of every value."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import tomlkit
from attrs import field, frozen

from imginav.components import Dataset, Metric, Selector
from imginav.errors import UserError, in_one_line
from imginav.fingerprints import sha256_of_tables
from imginav.layers import Keys, Layer, expand, leaves, merge, read_chain, setting, value_at
from imginav.manifest import CARE, Manifest, Output, Plan
from imginav.profiles import Profile, profiles_of
from imginav.reading import MOST_VALUES, read_toml
from imginav.registry import Registry
from imginav.structuring import Fault, Structurer, StructuringError
from imginav.sweeps import changes_of, values_of
from imginav.winners import Winner, find_winner, take

SITE_FILE = Path("imginav.toml")
"""The site file that is read where it lies in the working folder and `--site` names no other."""

SITE_TABLES = ("data", "callbacks", "evaluation", "machine", "output", "cluster")
"""What a site may say: where things are, what accompanies a run and what is measured of it, never what is tried."""

PLAN_TABLES = ("sweep", "winners", "cluster")
"""What a phase says about its experiments; the manifest of a single one has no such tables."""

LINEAGE = "lineage"
"""The table of a resolved manifest that holds the winners of earlier phases which it rests on, by their phase."""

HEADING = "Resolved from "
"""With what the first line of a resolved manifest begins."""

AT_TRIAL_SCALE = "at trial scale"
"""What that line says of a trial."""

MOST_FAULTS = 100
"""That are shown; who has mended these may ask again."""

Scale = Literal["auto", "full", "trial"]


@frozen(kw_only=True)
class ResolvedManifest:
    """The manifest of one experiment, with the origin of each of its values."""

    manifest: Manifest
    tables: dict[str, Any]  # the manifest as TOML tables, every value written out
    origins: dict[str, str]  # by dotted key: a file, the winner of a phase, `--set` or `default`
    source: Path  # the phase's file
    trial: bool  # whether the phase's [trial] values are in force
    name: str  # what the phase calls it, such as L3; its run folder has manifest.phase.experiment
    changes: dict[str, Any] = field(factory=dict)  # what it has where the phase's experiments differ, by dotted key
    lineage: dict[str, Winner] = field(factory=dict)  # the winners that its values came from, by their phase

    @property
    def sha256(self) -> str:
        """The fingerprint of all values that the result depends on: not of names, places and observers."""
        data = self.manifest.data
        places = [key for key in self.tables["data"] if isinstance(getattr(data, key, None), Path)]
        places += [key.removeprefix("data.") for key in CARE]
        observers = [name for name, callback in self.manifest.callbacks.items() if callback.observer]
        return sha256_of_tables(
            {
                **{key: self.tables.get(key, {}) for key in ("encoder", "decoder", "losses")},
                "train": {key: value for key, value in self.tables["train"].items() if f"train.{key}" not in CARE},
                "data": {key: value for key, value in self.tables["data"].items() if key not in places},
                "callbacks": [
                    [name, table] for name, table in self.tables.get("callbacks", {}).items() if name not in observers
                ],
            }
        )

    def to_toml(self) -> str:
        """Return the manifest as TOML with each value's origin beside it; `load` reads it back as an equal one."""
        document = tomlkit.document()
        scale = AT_TRIAL_SCALE if self.trial else "at full scale"
        source = in_one_line(str(self.source))
        document.add(tomlkit.comment(f"{HEADING}{source}, {scale}; beside each value, where it came from."))
        _add_tables(document, self.tables, (), self.origins)
        if self.lineage:
            structurer = Structurer(Registry())
            document.add(LINEAGE, {phase: structurer.unstructure(w) for phase, w in self.lineage.items()})
        return tomlkit.dumps(document)


@frozen(kw_only=True)
class ResolvedPhase:
    """A phase: the manifests of its experiments, and the rule by which one of them wins."""

    source: Path
    base: str  # with what the names of all run folders begin
    experiments: tuple[ResolvedManifest, ...]  # in the order of the file; with several seeds, these one after another
    selector: Selector | None  # none: it has no winner, unless it has one experiment only
    varied: tuple[str, ...]  # the dotted keys in which the experiments differ
    winners: dict[str, tuple[str, ...]]  # the dotted keys that it takes from which phase
    lineage: dict[str, Winner]  # the recorded ones of these
    profiles: tuple[Profile, ...]  # where its jobs run, the cluster as it is last; empty: they can run nowhere
    structurer: Structurer

    @property
    def manifest(self) -> Manifest:
        """The manifest of the first experiment: for what all of them share."""
        return self.experiments[0].manifest

    @property
    def id(self) -> str:
        return self.manifest.phase.id

    @property
    def heading(self) -> str:
        """The phase's number and title."""
        return self.manifest.phase.heading

    @property
    def shared(self) -> Path:
        """The folder that the phase's experiments share."""
        return self.manifest.output.shared / self.manifest.phase.group

    @property
    def names(self) -> list[str]:
        """The experiments' names, each once."""
        return list(dict.fromkeys(experiment.name for experiment in self.experiments))

    def label(self, experiment: ResolvedManifest) -> str:
        """Return the name of one of its runs without what all of them begin with: L3, or L3_seed43."""
        return experiment.manifest.phase.experiment.removeprefix(f"{self.base}_")

    @property
    def without_winner(self) -> list[str]:
        """The phases that it takes values from and that have no recorded winner: the written values stand."""
        return [phase for phase in self.winners if phase not in self.lineage]

    @property
    def sha256(self) -> str:
        """The fingerprint of all experiments and the rule."""
        rule = self.structurer.unstructure(self.selector) if self.selector else {}
        return sha256_of_tables([sorted((e.name, e.sha256) for e in self.experiments), rule])


def load(
    path: Path,
    registry: Registry,
    *,
    site: Path | None = None,
    settings: Sequence[str] = (),
    scale: Scale = "auto",
    use_site: bool = True,
) -> ResolvedManifest:
    """Read the manifest of a single experiment, such as the one that a run folder holds; see `load_phase`."""
    phase = load_phase(path, registry, site=site, settings=settings, scale=scale, use_site=use_site)
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
) -> ResolvedPhase:
    """Read a phase's manifest and resolve each of its experiments.

    Over each other lie, from the bottom: the files that it extends, the phase's file, the site file, [trial], the
    winners of earlier phases, what the experiment changes, and the settings (`key=value`) of the command line. Raises
    UserError with all faults of all files and experiments at once, and with `require_winners` where one is missing.
    Without `use_site` a site file counts where it is named, and the one of the working folder does not.
    """
    structurer, faults = _structurer_of(registry), Faults(path)
    below, inherited = _read(
        path, site or (SITE_FILE if use_site and SITE_FILE.is_file() else None), structurer, faults
    )
    below.insert(0, _installed_metrics(registry))
    command_line = [setting(text) for text in settings]
    below, in_trial = _with_trial(below, command_line, scale, registry, path)
    plan, output, profiles = _plan([*below, *command_line], structurer, faults)
    below, command_line = _without_plan(below), _without_plan(command_line)
    lineage = _lineage(path, plan, output, structurer, require_winners=require_winners)
    below += [
        Layer(winner.summary, expand(take(winner, plan.winners[phase], str(path)), f"{path} [winners]"))
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
    experiments = []
    for change in changes:
        tables, origins = merge([*below, *change.layers, *command_line])
        with faults.gathered(origins):
            manifest = structurer.structure(tables, Manifest)
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
        profiles=profiles,
        structurer=structurer,
    )


@functools.lru_cache(maxsize=4)
def _structurer_of(registry: Registry) -> Structurer:
    """Return the structurer of a registry; it makes its functions once, and they take most of the time."""
    return Structurer(registry)


def _read(
    path: Path, site: Path | None, structurer: Structurer, faults: Faults
) -> tuple[list[Layer], dict[str, Winner]]:
    """Return the layers of a phase's files and of the site, and the winners that a resolved manifest rests on."""
    files = read_chain(path)
    inherited: dict[str, Winner] = {}
    with faults.gathered({}, (LINEAGE,)):
        inherited = structurer.structure(files[-1].tables.pop(LINEAGE, {}), dict[str, Winner])
    return [*files, *_site_layer(site)], inherited


def _installed_metrics(registry: Registry) -> Layer:
    """Return the layer in which each installed metric is measured as it is, unless a file says otherwise."""
    names = [registration.name for registration in registry if registration.kind == Metric.kind]
    return Layer("installed", {"evaluation": {"metrics": {name: {"type": name} for name in names}}})


def _with_trial(
    layers: Sequence[Layer], command_line: Sequence[Layer], scale: Scale, registry: Registry, path: Path
) -> tuple[list[Layer], bool]:
    """Return the layers, with their [trial] tables over them where these are in force, and whether they are."""
    trial = [
        Layer(f"{layer.origin} [trial]", expand(layer.tables.pop("trial"), f"{layer.origin} [trial]"))
        for layer in layers
        if "trial" in layer.tables
    ]
    in_trial = _wants_trial(scale, bool(trial), [*layers, *command_line], registry, path)
    return [*layers, *(trial if in_trial else ())], in_trial


def _lineage(
    path: Path, plan: Plan, output: Output, structurer: Structurer, *, require_winners: bool
) -> dict[str, Winner]:
    """Return the recorded winners of the phases that a phase takes values from."""
    found = {phase: winner for phase in plan.winners if (winner := find_winner(phase, output.shared, structurer))}
    if require_winners and (missing := [phase for phase in plan.winners if phase not in found]):
        raise UserError(
            f"{path}: --require-winners: {output.shared} holds no winner of phase {', '.join(missing)}; run it first"
        )
    return found


class Faults:
    """Everything that is wrong in a phase, each fault once, however many experiments have it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, tuple[str, ...]] = {}  # with the keys that lead to the fault

    @contextmanager
    def gathered(self, origins: Mapping[Keys, str], within: Keys = ()) -> Iterator[None]:
        """Keep the faults of what is structured inside, with the origins of their values."""
        try:
            yield
        except StructuringError as error:
            origins_within = _origins_within(origins)
            for fault in error.faults:
                keys = (*within, *fault.path)
                origin = ", ".join(origins_within.get(keys, ())) or str(self._path)
                place = in_one_line(".".join(keys)) or "the manifest"
                self._lines[f"{fault.text} @ {place} ({in_one_line(origin)})"] = keys

    @property
    def enough(self) -> bool:
        """Whether there are more faults than anyone reads."""
        return len(self._lines) > MOST_FAULTS

    def stop_if_any(self) -> None:
        """Raise UserError with all of them, where there are any."""
        if self._lines:
            heading = f"{self._path}: {len(self._lines)} {'fault' if len(self._lines) == 1 else 'faults'}"
            faults = sorted(self._lines, key=self._lines.__getitem__)
            if self.enough:
                faults[MOST_FAULTS:] = ["… and more"]
            raise UserError("\n".join([heading, *(f"  {fault}" for fault in faults)]), faults)


def _plan(layers: Sequence[Layer], structurer: Structurer, faults: Faults) -> tuple[Plan, Output, tuple[Profile, ...]]:
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


def _without_plan(layers: Sequence[Layer]) -> list[Layer]:
    return [
        Layer(layer.origin, {key: table for key, table in layer.tables.items() if key not in PLAN_TABLES})
        for layer in layers
    ]


def no_matter_of_a_site(tables: Mapping[str, Any]) -> list[str]:
    """Return what of some tables cannot stand in a site file, by dotted key."""
    found = {keys[0] if keys[0] != "train" else ".".join(keys) for keys, _ in leaves(tables)}
    return sorted(found - {*SITE_TABLES, *CARE})


def _site_layer(path: Path | None) -> list[Layer]:
    if path is None:
        return []
    tables = read_toml(path)
    if strangers := no_matter_of_a_site(tables):
        raise UserError(
            f"{path}: expected only the tables {', '.join(SITE_TABLES)} and what a run does in trouble "
            f"({', '.join(key for key in CARE if key.startswith('train.'))}) in a site file, found "
            f"{', '.join(strangers)}; what is tried belongs into the phase's manifest"
        )
    return [Layer(str(path), tables)]


def _wants_trial(scale: Scale, there: bool, layers: Sequence[Layer], registry: Registry, path: Path) -> bool:
    if scale == "trial" and not there:
        raise UserError(f"--trial: {path} has no [trial] table to say what a trial changes; run it without --trial")
    if scale != "auto" or not there:
        return scale == "trial"
    data = merge(layers)[0].get("data")
    try:
        dataset = registry.find(Dataset.kind, data["type"]) if isinstance(data, dict) else None
    except (LookupError, TypeError):
        return False  # what is wrong with the table is said when it is structured
    return bool(dataset and issubclass(dataset, Dataset) and dataset.embedded)


def _shortest(keys: Iterable[str]) -> tuple[str, ...]:
    """Leave out the dotted keys that lead into what another one names as a whole."""
    known = list(keys)
    return tuple(key for key in known if not any(key.startswith(f"{other}.") for other in known))


def _refuse_dots(tables: Mapping[str, Any]) -> None:
    """Every value is known by the keys that lead to it with dots between them, so a dot within one leads nowhere."""
    if wrong := [keys for keys, _ in leaves(tables) if any("." in key for key in keys)]:
        raise StructuringError([Fault(keys, "expected keys without dots in them; rename it") for keys in wrong])


def _refuse_settings_of(varied: Sequence[str], command_line: Sequence[Layer], path: Path) -> None:
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


def _origins_within(origins: Mapping[Keys, str]) -> dict[Keys, dict[str, None]]:
    """Return the origins of each value, and for each table those of all that stands in it, in their order."""
    within: dict[Keys, dict[str, None]] = {}
    for key, origin in origins.items():
        for length in range(len(key) + 1):
            within.setdefault(key[:length], {})[origin] = None
    return within


def _add_tables(
    container: tomlkit.TOMLDocument | tomlkit.items.Table,
    tables: Mapping[str, Any],
    path: tuple[str, ...],
    origins: Mapping[str, str],
) -> None:
    for key, value in tables.items():
        if not isinstance(value, dict):
            item = tomlkit.item(value)
            item.comment(f"# {in_one_line(origins['.'.join((*path, key))])}")  # one that begins with # needs another
            container.add(key, item)
    for key, value in tables.items():
        if isinstance(value, dict):
            table = tomlkit.table()
            _add_tables(table, value, (*path, key), origins)
            container.add(key, table)
