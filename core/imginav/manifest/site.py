"""The site file: where things are, what accompanies a run, what is measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from imginav.errors import UserError
from imginav.manifest.config_layers import ConfigLayer, leaves, value_at
from imginav.manifest.reading import read_toml
from imginav.manifest.tables import FAULT_POLICY_KEYS

SITE_FILE = Path("imginav.toml")
"""The site file that is read where it lies in the working folder and `--site` names no other."""

SITE_TABLES = ("data", "callbacks", "evaluation", "machine", "output", "cluster")
"""What a site may say: where things are, what accompanies a run and what is measured of it, never what is tried."""


PLUGINS = "plugins"
"""The key of a site file that names plugin files, which are used before any manifest is read."""


def keys_not_allowed_in_site(tables: Mapping[str, Any]) -> list[str]:
    """Return what of some tables cannot stand in a site file, by dotted key."""
    found = {keys[0] if keys[0] != "train" else ".".join(keys) for keys, _ in leaves(tables)}
    return sorted(found - {PLUGINS, *SITE_TABLES, *FAULT_POLICY_KEYS})


def _site_layer(path: Path | None, phase: str) -> list[ConfigLayer]:
    """Return the layer of a site file; raises UserError, with a phase that extends `phase`, for what is tried."""
    if path is None:
        return []
    tables = read_toml(path)
    if strangers := keys_not_allowed_in_site(tables):
        raise UserError(
            f"{path}: expected only the tables {', '.join(SITE_TABLES)} and what a run does in trouble "
            f"({', '.join(key for key in FAULT_POLICY_KEYS if key.startswith('train.'))}) in a site file, found "
            f"{', '.join(strangers)}; what is tried belongs into a phase of your own, such as this own.toml:\n"
            f"{_own_phase(tables, strangers, phase)}"
        )
    tables.pop(PLUGINS, None)
    return [ConfigLayer(str(path), tables)]


def _own_phase(tables: Mapping[str, Any], strangers: Sequence[str], phase: str) -> str:
    """Return the phase that says what a site file must not; the keys that it does not have come from `phase`."""
    wanted = [(keys, value) for keys, value in leaves(tables) if {keys[0], ".".join(keys)} & set(strangers)]
    lines = [f"extends = {tomlkit.item(phase).as_string()}"]
    lines += [] if "phase" in strangers else ['phase.experiment = "own"', 'phase.group = "own_runs"']
    lines += [f"{tomlkit.key(keys).as_string()} = {tomlkit.item(value).as_string()}" for keys, value in wanted]
    return "\n".join(f"  {line}" for line in lines) + f"\nphase.id and all else come from {phase}: imginav run own.toml"


def experiments_folder(site: Path) -> Path:
    """Return where a site file says that runs lie, or the place where they lie by default."""
    folder = value_at(read_toml(site), ("output", "experiments")) if site.is_file() else None
    return Path(folder) if isinstance(folder, str) else Path("outputs")
