"""The table [resolved] of a resolved manifest: the file, the scale, and the origin of each value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import tomlkit
from attrs import field, frozen
from tomlkit.container import Container
from tomlkit.items import Item, Table

from imginav.errors import in_one_line
from imginav.manifest.reading import MOST_CHARACTERS
from imginav.manifest.structuring import Structurer
from imginav.plugin.registry import Registry

RESOLVED = "resolved"
"""The key of the table."""

HEADING = "Resolved from "
"""The beginning of the comment in the first line of a resolved manifest."""

AT_SCALE = {"full": "at full scale", "trial": "at trial scale"}

_STRUCTURER = Structurer(Registry())


@frozen(kw_only=True)
class Origin:
    """Where some values came from."""

    origin: str  # a file, the winner of a phase, `--set` or `default`
    keys: tuple[str, ...]  # dotted, of the values


@frozen(kw_only=True)
class Resolution:
    """What a resolved manifest says of itself."""

    source: str  # the phase's file
    scale: Literal["full", "trial"]
    origins: tuple[Origin, ...] = field(default=())

    @classmethod
    def of(cls, source: object, origins: Mapping[str, str], *, trial: bool) -> Resolution:
        """Return what to write down; unprintable characters become escapes."""
        keys: dict[str, list[str]] = {}
        for key, origin in origins.items():
            keys.setdefault(in_one_line(origin)[:MOST_CHARACTERS], []).append(key)
        grouped = tuple(Origin(origin=origin, keys=tuple(of_it)) for origin, of_it in keys.items())
        return cls(source=in_one_line(str(source)), scale="trial" if trial else "full", origins=grouped)

    @property
    def heading(self) -> str:
        """The first line of the file, for people."""
        return f"{HEADING}{self.source}, {AT_SCALE[self.scale]}; beside each value, where it came from."

    @property
    def by_key(self) -> dict[str, str]:
        """The origin of each value by its dotted key."""
        return {key: group.origin for group in self.origins for key in group.keys}

    @property
    def table(self) -> dict[str, Any]:
        """The table, as TOML has it."""
        return _STRUCTURER.unstructure(self)


def resolution_of(text: str, tables: Mapping[str, Any]) -> Resolution | None:
    """Return what a resolved manifest says of itself; None if it is no resolved manifest.

    Raises StructuringError where its table is damaged, and TOMLKitError where its text is no TOML.
    """
    if RESOLVED in tables:
        return _STRUCTURER.structure({RESOLVED: tables[RESOLVED]}, dict[str, Resolution])[RESOLVED]
    # Versions before the table wrote all of it into comments alone; nothing else reads them.
    heading = text.partition("\n")[0].removeprefix("# ")
    if not heading.startswith(HEADING):
        return None
    source, _, scale = heading.removeprefix(HEADING).rpartition("; ")[0].rpartition(", ")
    origins = tuple(Origin(origin=origin, keys=(key,)) for key, origin in _comments(tomlkit.parse(text), ()))
    return Resolution(source=source, scale="trial" if scale == AT_SCALE["trial"] else "full", origins=origins)


def _comments(table: Container | Table, keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    container = table.value if isinstance(table, Table) else table
    for key in container:
        item = container.item(key)
        if isinstance(item, Table):
            yield from _comments(item, (*keys, key))
        elif isinstance(item, Item):
            yield ".".join((*keys, key)), item.trivia.comment.removeprefix("# ")
