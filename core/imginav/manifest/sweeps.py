"""The experiments of a sweep: their names and what each of them changes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from imginav.errors import UserError, shown
from imginav.manifest.config_layers import ConfigLayer, expand, leaves, value_at
from imginav.manifest.tables import Sweep, Train

SWITCHED_BY_FALSE = (("losses",), ("callbacks",), ("decoder", "heads"))
"""The tables of a manifest in which `false` switches an entry off."""

FIXED_TABLES = ("phase", "output", "machine")
"""What an experiment cannot change: names, places, and how it is computed."""

MOST_EXPERIMENTS = 1_000
"""Of a phase; of more, nobody waits for the winner."""


@frozen
class Changes:
    """What makes one experiment out of what a phase's experiments share."""

    name: str
    layers: tuple[ConfigLayer, ...]
    varied: tuple[str, ...]  # the dotted keys that it changes, as they are written


def changes_of(sweep: Sweep | None, tables: Mapping[str, Any], path: Path) -> list[Changes]:
    """Return the experiments of a phase, whose shared values are `tables`; without a sweep there is one."""
    base = value_at(tables, ("phase", "experiment"), "")
    if sweep is None:
        return [Changes(str(base), (), ())]
    found: list[Changes] = []
    _refuse_too_many(sweep, path)
    names: set[str] = set()
    for name, changed in (*sweep.experiments.items(), *_combinations(sweep.grid, path)):
        origin = f"{path} [sweep] {name}"
        if name in names:
            raise UserError(f"{path}: two experiments of the sweep are called {name}; rename one of them")
        names.add(name)
        values = expand(changed, origin)
        if own := sorted(set(FIXED_TABLES) & set(values)):
            raise UserError(f"{origin}: changes {own[0]}, which says where and how, not what is tried; take it out")
        for seed in sweep.seeds or (None,):
            suffix = f"_seed{seed}" if len(sweep.seeds) > 1 else ""
            layers = [
                ConfigLayer(origin, {"phase": {"experiment": f"{base}_{name}{suffix}"}}),
                ConfigLayer(origin, values),
            ]
            if seed is not None:
                layers.append(ConfigLayer(f"{path} [sweep] seeds", _seeds(seed, tables)))
            found.append(Changes(name, tuple(layers), tuple(_written_keys(changed))))
    return found


def values_of(tables: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return the values of an experiment at some dotted keys; `false` for a loss, head or callback that it lacks.

    A key whose value is none (which TOML cannot say) is left out.
    """
    values = {}
    for key in keys:
        parts = tuple(key.split("."))
        value = value_at(tables, parts)
        if value is not None:
            values[key] = value
        if (entry := _entry(parts)) and value_at(tables, entry) is None:
            values[".".join(entry)] = False
    return values


def switched_by_false(key: str) -> bool:
    """Whether a dotted key names a loss, a head or a callback, which `false` switches off."""
    parts = tuple(key.split("."))
    return _entry(parts) == parts


def _entry(parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the keys of the loss, head or callback that some keys lead into, if they do."""
    for table in SWITCHED_BY_FALSE:
        if parts[: len(table)] == table and len(parts) > len(table):
            return parts[: len(table) + 1]
    return None


def _refuse_too_many(sweep: Sweep, path: Path) -> None:
    """Count the experiments before the first one is made."""
    combinations = math.prod(len(values) for _, values in leaves(sweep.grid) if isinstance(values, list))
    number = (len(sweep.experiments) + (combinations if sweep.grid else 0)) * max(1, len(sweep.seeds))
    if number > MOST_EXPERIMENTS:
        raise UserError(
            f"{path}: [sweep] makes {number:,} experiments; take fewer values or seeds: {MOST_EXPERIMENTS:,} are the "
            "most"
        )


def _combinations(grid: Mapping[str, Any], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every combination of a grid's values, with a name made of them."""
    axes = {".".join(keys): values for keys, values in leaves(grid)}
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{path}: sweep.grid.{key} = {shown(values)}: expected a list of at least one value")
    if not axes:
        return
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        parts = [f"{key.rpartition('.')[2]}{_plain(value)}" for key, value in chosen.items()]
        yield "-".join(parts), chosen


def _plain(value: Any) -> str:
    """Return a value as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", f"{value:g}" if isinstance(value, float) else str(value)).strip("_")


def _written_keys(changed: Mapping[str, Any]) -> list[str]:
    """Return dotted keys as they are written; of a nested table, those of its values."""
    return [
        ".".join(keys)
        for key, value in changed.items()
        for keys in ([(key,)] if "." in key or not isinstance(value, dict) else [k for k, _ in leaves({key: value})])
    ]


def _seeds(seed: int, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Each repetition trains from its own seed, and is judged on the same layouts as the others."""
    train = value_at(tables, ("train",), {})
    if not isinstance(train, Mapping):
        return {}  # what is wrong with the table is said when it is structured
    split_seed = train.get("split_seed", train.get("seed", attrs.fields(Train).seed.default))
    return {"train": {"seed": seed, "split_seed": split_seed}}
