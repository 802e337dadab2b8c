"""Layers of TOML tables over each other, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from imginav.errors import UserError, shown
from imginav.manifest.reading import (
    MOST_CHARACTERS,
    MOST_KEY_CHARACTERS,
    MOST_LEVELS,
    NotTomlError,
    parse_toml,
    read_toml,
)
from imginav.manifest.structuring import Table
from imginav.manifest.tables import PLAN_TABLES

EXTENDS = "extends"
"""The key of a file that names the file which it stands upon."""

MOST_FILES = 32
"""In a chain of files that extend each other; the phases have two."""

Keys = tuple[str, ...]


class Replacement(dict[str, Any]):
    """A table that takes the place of the one in the layers below, where others add to it."""


@frozen
class ConfigLayer:
    """The values of one origin; a later layer goes before an earlier one."""

    origin: str
    tables: dict[str, Any]


def read_chain(path: Path) -> list[ConfigLayer]:
    """Return a file's tables with those of the files that it extends, the one that stands lowest first.

    Raises UserError for a file that is missing, is no TOML, or extends itself or too many others on the way.
    """
    chain: list[ConfigLayer] = []
    seen: dict[Path, Path] = {}
    while True:
        tables = read_toml(path)
        seen[path.resolve()] = path
        base = tables.pop(EXTENDS, None)
        chain.insert(0, ConfigLayer(str(path), tables))
        if base is None:
            return chain
        if not isinstance(base, str) or not base or "\0" in base:
            raise UserError(
                f"{path}: extends = {shown(base)}: expected the path of a TOML file, from this file's folder"
            )
        if len(chain) == MOST_FILES:
            raise UserError(f"{path}: is the {MOST_FILES}th of files that extend each other; let fewer be enough")
        below = path.parent / base
        if not _is_file(below):
            raise UserError(f"{path}: extends = {base!r}: there is no file {below}; name it from {path}'s folder")
        if below.resolve() in seen:
            way = " → ".join(str(file) for file in [*seen.values(), below])
            raise UserError(f"{path}: extends = {base!r} goes round in a circle ({way}); take one of them out")
        path = below


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the disk, a folder that cannot be entered
        return False


def merge(layers: Sequence[ConfigLayer]) -> tuple[Table, dict[Keys, str]]:
    """Return the values of all layers, later ones over earlier ones, and the origin of each by its keys."""
    merged = Table()
    latest: dict[Keys, str] = {}
    for layer in layers:
        # A value where a table belongs stays, though a later layer has the table: it has to be refused.
        hidden = {key for key, value in layer.tables.items() if isinstance(value, dict)} - set(PLAN_TABLES)
        wrong = {key: merged[key] for key in hidden & merged.keys() if not isinstance(merged[key], dict)}
        merged = _merge_table(merged, layer.tables)
        merged.update(wrong)
        for key, _ in leaves(layer.tables):
            latest.pop(key, None)  # so that the origins of the lowest layer stand first
            latest[key] = layer.origin
    # What a later layer has put something else in the place of is no longer there.
    present = {key for key, _ in leaves(merged)}
    return merged, {key: origin for key, origin in latest.items() if key in present}


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
        raise UserError(f"{origin}: expected a table of keys and values, found {shown(flat)}")
    tables: dict[str, Any] = {}
    for (*parents, last), value in (((".".join(key)).split("."), value) for key, value in leaves(flat)):
        place = tables
        if len(parents) >= MOST_LEVELS:
            raise UserError(f"{origin}: {shown('.'.join(parents))} is nested too deeply for a manifest")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"{origin}: sets {parent} both as a value and as a table")
        if isinstance(place.get(last), dict):
            raise UserError(f"{origin}: sets {last} both as a value and as a table")
        place[last] = value
    return tables


def setting(text: str) -> ConfigLayer:
    """Return `a.b=value` of the command line as a layer; the value is TOML, and text where it is none.

    A table adds to the one that is there, and `a.b:={…}` takes its place.
    """
    key, equals, value = text.partition("=")
    replaces = key.endswith(":")
    key = key.removesuffix(":")
    where = f"--set {shown(text)}" if len(text) > MOST_KEY_CHARACTERS else f"--set {text}"
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"--set {shown(text)}: is not Unicode text; write it in UTF-8") from None
    try:
        tables = parse_toml(f"{key} = 0", where) if equals and "\n" not in key else {}
    except NotTomlError:
        tables = {}
    if not tables:
        raise UserError(f"{where}: expected key=value, such as train.epochs=20")
    place = tables
    while isinstance(below := next(iter(place.values())), dict):
        place = below
    last = next(iter(place))
    place[last] = _value_of(value, where)
    if replaces:
        if not isinstance(place[last], dict):
            raise UserError(f"{where}: := puts a table in the place of another; write {key}={value} for a value")
        place[last] = Replacement(place[last])
    return ConfigLayer("--set", tables)


def _value_of(text: str, where: str) -> Any:
    try:
        tables = parse_toml(f"value = {text}", where)
    except NotTomlError:
        tables = {}
    if len(tables) == 1:  # in a second line there would be a second key
        return tables["value"]
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"{where}: a text of {len(text):,} characters; {MOST_CHARACTERS:,} are the most")
    return text


def _merge_table(under: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    merged = Table(under)
    inherited = set(under.inherited) if isinstance(under, Table) else set()
    if "type" in over and over["type"] != under.get("type"):
        inherited |= set(under)
    for key, value in over.items():
        below = {} if isinstance(value, Replacement) else under.get(key)
        merged[key] = (
            _merge_table(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
        )
    merged.inherited = frozenset(inherited - set(over))
    return merged
