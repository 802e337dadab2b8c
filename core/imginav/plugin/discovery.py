"""Installed plugins: their entry points are found, imported and registered; each fault names its culprit."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, entry_points

import attrs
import pluggy

from imginav.errors import UserError
from imginav.formatting import format_path
from imginav.plugin.file_plugins import files_in_use
from imginav.plugin.hookspecs import PROJECT

DISABLE = "IMGINAV_DISABLE_PLUGINS"
"""The environment variable with entry points or distributions to leave out, separated by commas."""


@attrs.frozen
class Provider:
    """The distribution and the entry point, or the file, that a component or a command comes from."""

    distribution: str  # or the path of a file
    version: str
    entry_point: str  # empty for the core, which needs none, and for a file
    is_file: bool = False

    def __str__(self) -> str:
        plugin = f"plugin {self.entry_point!r} of " if self.entry_point else ""
        return f"{plugin}{self.distribution} {self.version}".strip()

    @property
    def remedy(self) -> str:
        """What a user can do about a faulty plugin."""
        if self.is_file:
            return "repair it"
        return f"repair or uninstall it, or leave it out with {DISABLE}={self.entry_point}"


def load_plugins(group: str, specs: type) -> Iterator[tuple[Provider, pluggy.PluginManager, object]]:
    """Import the plugins of an entry-point group one after the other, those that are left out by `DISABLE` excepted.

    Yields the provider of each, the plugin manager that knows it and those before it, and the plugin itself. Raises
    UserError, which names the distribution and the entry point, for one that cannot be imported, has a hook that is not
    in `specs`, or has none.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    seen: dict[str, Provider] = {}
    for provider, entry_point in _entry_points(group):
        if twin := seen.get(entry_point.name):
            raise UserError(
                f"{twin} and {provider} use the same entry-point name; "
                f"uninstall one of them, or leave one out with {DISABLE}={twin.distribution}"
            )
        seen[entry_point.name] = provider
        try:
            plugin = entry_point.load()
        except Exception as error:  # a plugin may fail in any way while it is imported
            raise UserError(
                f"{provider} cannot be loaded: {type(error).__name__}: {_reason(error)}; {provider.remedy}"
            ) from error
        _register(manager, plugin, provider, specs, group)
        yield provider, manager, plugin


def _reason(error: Exception) -> str:
    """Return an error's text; for a name that imginav does not have, what `__getattr__` of its module says of it."""
    if missing := re.match(r"cannot import name '(\w+)' from '(imginav[\w.]*)'", str(error)):
        try:  # `from imginav import NAME` drops that text
            getattr(sys.modules[missing[2]], missing[1])
        except AttributeError as said:
            return str(said)
    return str(error)


def _register(manager: pluggy.PluginManager, plugin: object, provider: Provider, specs: type, group: str) -> None:
    hooks = ", ".join(name for name in vars(specs) if not name.startswith("_"))
    try:
        manager.register(plugin, provider.entry_point or None)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise UserError(
            f"{provider} has a hook that imginav does not know or cannot call: {' '.join(str(error).split())}; "
            f"the hooks of the entry-point group {group} are {hooks}"
        ) from error
    except ValueError as error:
        raise UserError(f"{provider} points to a module that another entry point has registered already") from error
    if not manager.get_hookcallers(plugin):
        raise UserError(f"{provider} offers nothing: its module has none of the functions {hooks} marked @hookimpl")


def _entry_points(group: str) -> list[tuple[Provider, EntryPoint]]:
    """Return the entry points of a group that are not left out, in the order of their names, and the files in use."""
    disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")}
    versions: dict[Distribution, tuple[str, str]] = {}  # names and versions, each of which is parsed from a file
    # A distribution that is found twice on sys.path (an editable install and its source) is one distribution.
    found: dict[tuple[str, str], tuple[Provider, EntryPoint]] = {}
    for entry_point in entry_points(group=group):
        provider = _provider(entry_point, versions)
        if not disabled & {entry_point.name, provider.distribution}:
            found[provider.distribution, entry_point.name] = provider, entry_point
    files = files_in_use() if group == PROJECT else {}
    own = [
        (Provider(format_path(path), "", "", is_file=True), EntryPoint(path, module, group))
        for module, (path, _) in files.items()
    ]
    return [*(found[key] for key in sorted(found)), *own]


def third_parties() -> dict[str, Provider]:
    """Return the providers of all plugins but imginav's own, by the top-level package of their modules."""
    found = [item for group in (PROJECT, f"{PROJECT}.commands") for item in _entry_points(group)]
    return {
        point.module if provider.is_file else point.module.partition(".")[0]: provider
        for provider, point in found
        if provider.distribution != PROJECT
    }


def _provider(entry_point: EntryPoint, versions: dict[Distribution, tuple[str, str]]) -> Provider:
    distribution = entry_point.dist
    if distribution is None:
        return Provider("an unknown distribution", "?", entry_point.name)
    if distribution not in versions:
        metadata = distribution.metadata
        versions[distribution] = metadata["Name"], metadata["Version"]
    return Provider(*versions[distribution], entry_point.name)
