"""Layers of TOML tables over each other, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli
from attrs import frozen

from imginav.errors import UserError
from imginav.structuring import Table

EXTENDS = "extends"
"""The key of a file that names the file which it stands upon."""

Keys = tuple[str, ...]


@frozen
class Layer:
    """The values of one origin; a later layer goes before an earlier one."""

    origin: str
    tables: dict[str, Any]


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


def read_chain(path: Path) -> list[Layer]:
    """Return a file's tables with those of the files that it extends, the one that stands lowest first.

    Raises UserError for a file that is missing, is no TOML, or extends itself on the way.
    """
    chain: list[Layer] = []
    seen: dict[Path, Path] = {}
    while True:
        tables = read_toml(path)
        seen[path.resolve()] = path
        base = tables.pop(EXTENDS, None)
        chain.insert(0, Layer(str(path), tables))
        if base is None:
            return chain
        if not isinstance(base, str) or not base or "\0" in base:
            raise UserError(f"{path}: extends = {base!r}: expected the path of a TOML file, from this file's folder")
        below = path.parent / base
        if below.resolve() in seen:
            way = " → ".join(str(file) for file in [*seen.values(), below])
            raise UserError(f"{path}: extends = {base!r} goes round in a circle ({way}); take one of them out")
        if not _is_file(below):
            raise UserError(f"{path}: extends = {base!r}: there is no file {below}; name it from {path}'s folder")
        path = below


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the disk, a folder that cannot be entered
        return False


def merge(layers: Sequence[Layer]) -> tuple[Table, dict[Keys, str]]:
    """Return the values of all layers, later ones over earlier ones, and the origin of each by its keys."""
    merged = Table()
    origins: dict[Keys, str] = {}
    for layer in layers:
        merged = _merge_table(merged, layer.tables)
        for key, _ in leaves(layer.tables):
            # A value may take the place of a whole table, and a table that of a value.
            for other in [o for o in origins if o[: len(key)] == key or key[: len(o)] == o]:
                del origins[other]
            origins[key] = layer.origin
    return merged, origins


def leaves(tables: Mapping[str, Any], path: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Return each value of nested tables with the keys that lead to it; an empty table counts as a value."""
    for key, value in tables.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def value_at(tables: Mapping[str, Any], keys: Sequence[str], default: Any = None) -> Any:
    """Return the value or the table at the end of some keys, or the default where there is none."""
    place: Any = tables
    for key in keys:
        if not isinstance(place, Mapping) or key not in place:
            return default
        place = place[key]
    return place


def expand(flat: Any, origin: str) -> dict[str, Any]:
    """Return a table with dotted keys as nested tables; raises UserError where a key is a value and a table."""
    if not isinstance(flat, dict):
        raise UserError(f"{origin}: expected a table of keys and values, found {flat!r}")
    tables: dict[str, Any] = {}
    for (*parents, last), value in (((".".join(key)).split("."), value) for key, value in leaves(flat)):
        place = tables
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"{origin}: sets {parent} both as a value and as a table")
        if isinstance(place.get(last), dict):
            raise UserError(f"{origin}: sets {last} both as a value and as a table")
        place[last] = value
    return tables


def setting(text: str) -> Layer:
    """Return `a.b=value` of the command line as a layer; the value is TOML, and text where it is none."""
    key, equals, value = text.partition("=")
    try:
        tables = tomli.loads(f"{key} = 0") if equals and "\n" not in key else {}
    except tomli.TOMLDecodeError:
        tables = {}
    if not tables:
        raise UserError(f"--set {text}: expected key=value, such as train.epochs=20")
    try:
        parsed = tomli.loads(f"value = {value}")["value"]
    except (tomli.TOMLDecodeError, RecursionError):
        parsed = value
    place = tables
    while isinstance(below := next(iter(place.values())), dict):
        place = below
    place[next(iter(place))] = parsed
    return Layer("--set", tables)


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
