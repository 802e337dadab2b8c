"""What is trained against each other: arms, each a manifest with settings of its own, from a TOML file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from imginav import UserError
from imginav.data.loader import open_fingerprint
from imginav.manifest.config_layers import leaves, setting
from imginav.manifest.loading import Scale, load
from imginav.manifest.reading import read_toml
from imginav.manifest.resolved import ResolvedManifest
from imginav.manifest.structuring import Structurer, StructuringError
from imginav.plugin.registry import Registry, installed
from imginav.plugin.validators import FILE_NAME, above, file_name
from imginav_benches.quality import Quality
from imginav_benches.subjects import Subject

RUNS = "runs"
"""The folder of the run folders."""

REMEDY = "name a file of arms, such as benches/headline.toml"

BEFORE_SETTINGS = ("evaluation.latent_layouts=64", "evaluation.sampled_layouts=8")
"""Of the latent, which is not compared here, a run's own page says less."""


@frozen(kw_only=True)
class Targets:
    """What an arm is to do to the first one."""

    time_ratio: float = field(validator=above(0))  # reach its final MSE in at most this share of its training time
    mse_ratio: float = field(validator=above(0))  # at equal training time, have an MSE at least so many times lower


@frozen(kw_only=True)
class Arm:
    """One recipe."""

    name: str = field(validator=file_name)  # a part of the names of its run folders
    manifest: Path
    settings: tuple[str, ...] = ()  # as --set takes them: key=value


@frozen(kw_only=True)
class Contest:
    """Arms that are trained on the same layouts, one after the other; the first is what the others are held against."""

    arms: tuple[Arm, ...]
    targets: Targets | None = None
    evaluate_on: tuple[str, ...] = ()  # settings of the data that the final weights are measured on as well
    quality: Quality = field(factory=Quality)  # when points are taken


@frozen(kw_only=True)
class _ArmTable:
    """An arm as it stands in a file."""

    manifest: Path  # from the file's folder
    set: dict[str, Any] = field(factory=dict)  # values over the manifest's, by dotted key


@frozen(kw_only=True)
class _ArmsFile:
    """A file of arms."""

    arms: dict[str, _ArmTable]
    targets: Targets | None = None
    evaluate_on: dict[str, Any] = field(factory=dict)
    first_seconds: float = field(default=4.0, validator=above(0))  # see Quality
    growth: float = field(default=1.3, validator=above(1))


def read_arms(path: Path) -> Contest:
    """Return what a file of arms says; raises UserError with all that is wrong in it."""
    try:
        tables = read_toml(path)
    except UserError as error:
        raise UserError(str(error).partition("; name a phase")[0] + f"; {REMEDY}") from None
    try:
        said = Structurer(Registry()).structure(tables, _ArmsFile)
    except StructuringError as error:
        faults = ", and ".join(fault.at(".".join(fault.path) or "the file") for fault in error.faults)
        raise UserError(f"{path}: {faults}") from None
    return Contest(
        arms=_distinct(
            (
                _arm(name, path.parent / arm.manifest, settings_of(arm.set), str(path))
                for name, arm in said.arms.items()
            ),
            str(path),
        ),
        targets=said.targets,
        evaluate_on=of_data(settings_of(said.evaluate_on), f"{path}: evaluate_on"),
        quality=Quality(first_seconds=said.first_seconds, growth=said.growth),
    )


def named_arms(texts: Sequence[str]) -> Contest:
    """Return the arms that a command line names as NAME=PATH."""
    arms = []
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UserError(f"--manifest {text}: expected NAME=PATH, such as default=phases/1_5.toml")
        arms.append(_arm(name, Path(path), (), "--manifest"))
    return Contest(arms=_distinct(arms, "--manifest"))


def settings_of(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a table of values by dotted key as the settings of a command line."""
    return tuple(f"{'.'.join(keys)}={_as_toml(value)}" for keys, value in leaves(table))


def of_data(settings: Sequence[str], where: str) -> tuple[str, ...]:
    """Return settings, all of which must be of the data; raises UserError otherwise."""
    for text in settings:
        if list(setting(text).tables) != ["data"]:
            raise UserError(f"{where} {text}: expected a key of the data, such as data.seed=1")
    return tuple(settings)


@frozen(kw_only=True)
class Entry:
    """One run to be trained."""

    arm: str
    seed: int
    resolved: ResolvedManifest
    elsewhere: tuple[str, ...]  # settings of the other data that its final weights are measured on; none: no such data


def entries(
    contest: Contest,
    seeds: Sequence[int],
    folder: Path,
    *,
    settings: Sequence[str] = (),
    epochs: Mapping[str, int] | None = None,
    scale: Scale = "auto",
    site: Path | None = None,
) -> list[Entry]:
    """Return the runs in the order in which they are trained: the arms take turns, seed by seed.

    `epochs` are those of arms, by name, where they are not the manifest's. All seeds are judged on the same validation
    layouts. Raises UserError for whatever can be wrong before the training, as where two arms have other layouts.
    """

    def resolve(arm: Arm, *own: str) -> ResolvedManifest:
        said = [*BEFORE_SETTINGS, *arm.settings, *settings, *own]
        return load(arm.manifest, installed(), site=site, settings=said, scale=scale, use_site=False)

    if (wrong := [seed for seed in seeds if seed < 0]) or len(set(seeds)) < len(seeds) or not seeds:
        raise UserError(f"--seeds: expected whole numbers of at least 0, each once, found {wrong or list(seeds)}")
    train = resolve(contest.arms[0]).manifest.train
    split_seed = train.seed if train.split_seed is None else train.split_seed
    places = [f"output.experiments={_as_toml(str(folder / RUNS))}", f"output.shared={_as_toml(str(folder))}"]
    found = []
    for seed in seeds:
        for arm in contest.arms:
            said = [*places, "phase.group=shared", f"phase.experiment={arm.name}_seed{seed}"]
            said += [f"train.seed={seed}", f"train.split_seed={split_seed}"]
            if epochs and arm.name in epochs:
                said.append(f"train.epochs={epochs[arm.name]}")
            resolved = measured(resolve(arm, *said), contest.quality)
            found.append(Entry(arm=arm.name, seed=seed, resolved=resolved, elsewhere=contest.evaluate_on))
    # What is wrong with the last arm is better known before the first one has trained for hours.
    for run in found[: len(contest.arms)]:
        Subject(name=run.arm, manifest=run.resolved.manifest).check()
    for arm in contest.arms:
        resolve(arm, *contest.evaluate_on)
    _refuse_other_layouts(found[: len(contest.arms)])
    return found


def measured(resolved: ResolvedManifest, quality: Quality) -> ResolvedManifest:
    """Return a manifest whose run takes points.

    Its text does not say so, and so `imginav evaluate` reads the checkpoints, which knows nothing of benches.
    """
    callbacks = {**resolved.manifest.callbacks, "quality": quality}
    return evolve(resolved, manifest=evolve(resolved.manifest, callbacks=callbacks))


def _refuse_other_layouts(arms: Sequence[Entry]) -> None:
    fingerprints = [open_fingerprint(arm.resolved.manifest.data, arm.resolved.manifest.train) for arm in arms]
    for arm, own in zip(arms, fingerprints, strict=True):
        if not own.same(fingerprints[0]):
            raise UserError(
                f"{arm.arm} has other layouts than {arms[0].arm} ({own.layouts.description}; there "
                f"{fingerprints[0].layouts.description}), or another split; give both the same [data] and train.split"
            )


def _arm(name: str, manifest: Path, settings: tuple[str, ...], where: str) -> Arm:
    if not FILE_NAME.fullmatch(name):
        raise UserError(f"{where}: arm {name!r}: expected a name of letters, digits, '.', '_' and '-'")
    return Arm(name=name, manifest=manifest, settings=settings)


def _distinct(arms: Iterable[Arm], where: str) -> tuple[Arm, ...]:
    found = tuple(arms)
    names = [arm.name.casefold() for arm in found]  # some disks know no capitals
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{where}: two arms are called {doubled[0]}; rename one of them")
    if len(found) < 2:
        raise UserError(f"{where}: expected at least two arms to compare, found {len(found)}")
    return found


def _as_toml(value: Any) -> str:
    """Return a value as TOML in one line; no table of TOML's own is needed for what stands in a cell."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_toml, value)) + "]"
    # A text in JSON is one in TOML, and so are numbers, true and false.
    return json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, float) else repr(value)
