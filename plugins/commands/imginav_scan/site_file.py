"""The site file with the table of a data set: what else stands in the file is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from imginav.errors import UserError
from imginav.manifest.reading import parse_toml, read_text

TABLE = "data"

REMEDY = "repair it, or write elsewhere with --to FOLDER"


def has_data(path: Path) -> bool:
    """Whether a site file names a data set already; raises UserError where it cannot be read."""
    return path.exists() and TABLE in parse_toml(read_text(path, REMEDY), str(path))


def site_text(path: Path, data: Mapping[str, Any], comments: Sequence[str]) -> str:
    """Return a site file with a table of this data set, behind what it holds or in the place of the one that it has.

    Raises UserError where the file cannot be read, and where its table is spread so that it cannot be replaced.
    """
    before = read_text(path, REMEDY) if path.exists() else ""
    if TABLE not in parse_toml(before, str(path)):
        return _added(before, data, comments)
    document = tomlkit.parse(before)
    old = document[TABLE]
    if not isinstance(old, Table) or old.is_super_table():
        raise UserError(
            f"{path}: its data set is not one table [{TABLE}], which could be replaced; remove it from the file, and "
            "give the same command again"
        )
    document[TABLE] = _replacement(old, data, comments)
    return tomlkit.dumps(document)


def _added(before: str, data: Mapping[str, Any], comments: Sequence[str]) -> str:
    document = tomlkit.document()
    for comment in comments:
        document.add(tomlkit.comment(comment))
    document.add(TABLE, tomlkit.item(dict(data)))
    return "\n\n".join(part for part in (before.rstrip(), tomlkit.dumps(document)) if part)


def _replacement(old: Table, data: Mapping[str, Any], comments: Sequence[str]) -> Table:
    new = tomlkit.table()
    for comment in comments:
        new.add(tomlkit.comment(comment))
    for key, value in data.items():
        new.add(key, value)
    for item in _end(old):  # comments there are mostly about the next table
        new.add(item)
    return new


def _end(table: Table) -> list[Any]:
    """Return the blank lines and comments behind the last value of a table."""
    items = list(table.value.body)
    last = max((place for place, (key, _) in enumerate(items) if key is not None), default=-1)
    return [item for _, item in items[last + 1 :]]
