"""Plugins of other distributions that are installed in the same environment: tests see the built-in ones alone.

`tests/conftest.py` leaves them out, also in the processes that tests start.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from imginav.plugin import commands, registry


def is_foreign(entry_point: EntryPoint) -> bool:
    """Whether a plugin is another distribution's."""
    return entry_point.dist is None or entry_point.dist.name != "imginav"


FOREIGN = frozenset(
    entry_point.dist.name if entry_point.dist else entry_point.name
    for group in (registry.GROUP, commands.GROUP)
    for entry_point in entry_points(group=group)
    if is_foreign(entry_point)
)
"""The distributions of these plugins, as they were when the tests began: what a test installs is none of them."""


def left_out(*names: str, seen: Iterable[str] = ()) -> str:
    """Return the value of IMGINAV_DISABLE_PLUGINS that leaves out these plugins and those of other distributions.

    `seen` are distributions that are not left out, wherever they are installed.
    """
    return ",".join([*sorted(FOREIGN - set(seen)), *names])
