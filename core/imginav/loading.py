"""From a phase's TOML file to a manifest: layers of tables, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tomli
import tomlkit
from attrs import frozen

from imginav.components import Dataset
from imginav.errors import UserError
from imginav.manifest import Manifest
from imginav.registry import Registry
from imginav.structuring import Fault, Structurer, StructuringError, Table

SITE_FILE = Path("imginav.toml")
"""The site file that is read where it lies in the working folder and `--site` names no other."""

SITE_TABLES = ("data", "callbacks", "machine", "output")
"""What a site may say: where things are and what accompanies a run, never what is tried."""

Scale = Literal["auto", "full", "trial"]


@frozen(kw_only=True)
class ResolvedManifest:
    """A manifest with the origin of each of its values."""

    manifest: Manifest
    tables: dict[str, Any]  # the manifest as TOML tables, every value written out
    origins: dict[str, str]  # by dotted key: a file, `--set` or `default`
    source: Path  # the phase's file
    trial: bool  # whether the phase's [trial] values are in force

    def to_toml(self) -> str:
        """Return the manifest as TOML with each value's origin beside it; `load` reads it back as an equal one."""
        document = tomlkit.document()
        scale = "at trial scale" if self.trial else "at full scale"
        document.add(tomlkit.comment(f"Resolved from {self.source}, {scale}; beside each value, where it came from."))
        _add_tables(document, self.tables, (), self.origins)
        return tomlkit.dumps(document)


@frozen
class Layer:
    """The values of one origin; a later layer goes before an earlier one."""

    origin: str
    tables: dict[str, Any]


def load(
    path: Path,
    registry: Registry,
    *,
    site: Path | None = None,
    settings: Sequence[str] = (),
    scale: Scale = "auto",
) -> ResolvedManifest:
    """Read a phase's manifest, with the site file and the settings (`key=value`) of the command line over it.

    Raises UserError with all faults of all files at once.
    """
    phase = read_toml(path)
    trial = _expand(phase.pop("trial", {}), f"{path} [trial]")
    layers = [Layer(str(path), phase), *_site_layer(site)]
    command_line = [Layer("--set", _setting(setting)) for setting in settings]
    in_trial = _wants_trial(scale, bool(trial), [*layers, *command_line], registry, path)
    if in_trial:
        layers.append(Layer(f"{path} [trial]", trial))
    layers += command_line
    tables, origins = merge(layers)
    structurer = Structurer(registry)
    try:
        manifest = structurer.structure(tables, Manifest)
    except StructuringError as error:
        raise UserError(_report(path, error.faults, origins)) from None
    resolved = structurer.unstructure(manifest)
    leaves = {".".join(key): origins.get(key, "default") for key, _ in _leaves(resolved)}
    return ResolvedManifest(manifest=manifest, tables=resolved, origins=leaves, source=path, trial=in_trial)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file; raises UserError where there is none, or it is not TOML."""
    try:
        return tomli.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a phase's manifest, such as phases/1_5.toml") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except tomli.TOMLDecodeError as error:
        raise UserError(f"{path}: is not valid TOML: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply for a manifest") from None


def merge(layers: Sequence[Layer]) -> tuple[Table, dict[tuple[str, ...], str]]:
    """Return the values of all layers, later ones over earlier ones, and the origin of each by its keys."""
    merged = Table()
    origins: dict[tuple[str, ...], str] = {}
    for layer in layers:
        merged = _merge_table(merged, layer.tables)
        for key, _ in _leaves(layer.tables):
            # A value may take the place of a whole table, and a table that of a value.
            for other in [o for o in origins if o[: len(key)] == key or key[: len(o)] == o]:
                del origins[other]
            origins[key] = layer.origin
    return merged, origins


def _merge_table(under: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    merged = Table(under)
    inherited = set(under.inherited) if isinstance(under, Table) else set()
    if "type" in over and over["type"] != under.get("type"):
        inherited |= set(under)
    for key, value in over.items():
        below = under.get(key)
        merged[key] = (
            _merge_table(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
        )
    merged.inherited = frozenset(inherited - set(over))
    return merged


def _leaves(tables: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tables.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _site_layer(site: Path | None) -> list[Layer]:
    if site is None and not SITE_FILE.is_file():
        return []
    path = site or SITE_FILE
    tables = read_toml(path)
    if strangers := sorted(set(tables) - set(SITE_TABLES)):
        raise UserError(
            f"{path}: expected only the tables {', '.join(SITE_TABLES)} in a site file, found {', '.join(strangers)}; "
            "what is tried belongs into the phase's manifest"
        )
    return [Layer(str(path), tables)]


def _setting(text: str) -> dict[str, Any]:
    """Return `a.b=value` as tables; the value is TOML, and text where it is none."""
    key, equals, value = text.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UserError(f"--set {text}: expected key=value, such as train.epochs=20")
    try:
        parsed = tomli.loads(f"value = {value}")["value"]
    except (tomli.TOMLDecodeError, RecursionError):
        parsed = value
    return _expand({key.strip(): parsed}, f"--set {text}")


def _expand(flat: Any, origin: str) -> dict[str, Any]:
    """Return a table with dotted keys as nested tables."""
    if not isinstance(flat, dict):
        raise UserError(f"{origin}: expected a table of keys and values, found {flat!r}")
    tables: dict[str, Any] = {}
    for (*parents, last), value in (((".".join(key)).split("."), value) for key, value in _leaves(flat)):
        place = tables
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"{origin}: sets {parent} both as a value and as a table")
        place[last] = value
    return tables


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


def _report(path: Path, faults: Sequence[Fault], origins: Mapping[tuple[str, ...], str]) -> str:
    lines = [
        f"  {fault.text} @ {'.'.join(fault.path) or 'the manifest'} ({_origin(fault.path, origins) or path})"
        for fault in faults
    ]
    return "\n".join([f"{path}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}", *lines])


def _origin(path: tuple[str, ...], origins: Mapping[tuple[str, ...], str]) -> str | None:
    """Return the origin of a value, or for a table the origins of all that stands in it."""
    within = dict.fromkeys(o for key, o in origins.items() if key[: len(path)] == path)
    return ", ".join(within) or None


def _add_tables(
    container: tomlkit.TOMLDocument | tomlkit.items.Table,
    tables: Mapping[str, Any],
    path: tuple[str, ...],
    origins: Mapping[str, str],
) -> None:
    for key, value in tables.items():
        if not isinstance(value, dict):
            item = tomlkit.item(value)
            item.comment(origins[".".join((*path, key))])
            container.add(key, item)
    for key, value in tables.items():
        if isinstance(value, dict):
            table = tomlkit.table()
            _add_tables(table, value, (*path, key), origins)
            container.add(key, table)
