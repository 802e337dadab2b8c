"""Edits the table `[data]` of a site file and keeps everything else in it."""

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
    """Whether a site file already has a table `[data]`; raises UserError if it cannot be read."""
    return path.exists() and TABLE in parse_toml(read_text(path, REMEDY), str(path))


def site_text(path: Path, data: Mapping[str, Any], comments: Sequence[str]) -> str:
    """Return the text of a site file with this table `[data]`: appended, or replacing the one that is there.

    Raises UserError if the file cannot be read, or if its data set is not written as one table.
    """
    before = read_text(path, REMEDY) if path.exists() else ""
    if TABLE not in parse_toml(before, str(path)):
        return _added(before, data, comments)
    document = tomlkit.parse(before)
    old = document[TABLE]
    if not isinstance(old, Table) or old.is_super_table():
        raise UserError(
            f"{path}: the data set is not written as one table [{TABLE}], so it cannot be replaced; remove it from the "
            "file and run the same command again"
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
    for item in _trailing_comments(old):  # they usually describe the next table
        new.add(item)
    return new


def _trailing_comments(table: Table) -> list[Any]:
    """Return the comments and blank lines after the last value of a table."""
    items = list(table.value.body)
    last = max((place for place, (key, _) in enumerate(items) if key is not None), default=-1)
    return [item for _, item in items[last + 1 :]]
