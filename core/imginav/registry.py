"""The installed components, by kind and name, and who provides them."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
from collections.abc import Iterable, Iterator

import attrs
import pluggy

from imginav.components import Component
from imginav.errors import UserError, did_you_mean, nearest, shown
from imginav.hookspecs import PROJECT, PluginSpecs

GROUP = "imginav"
"""The entry-point group of plugins."""

DISABLE = "IMGINAV_DISABLE_PLUGINS"
"""An environment variable: entry points or distributions to leave out, separated by commas."""


@attrs.frozen
class Provider:
    """The distribution and the entry point that a component comes from."""

    distribution: str
    version: str
    entry_point: str

    def __str__(self) -> str:
        return f"plugin {self.entry_point!r} of {self.distribution} {self.version}"


@attrs.frozen
class Registration:
    """One installed component."""

    kind: str
    name: str
    component: type[Component]
    provider: Provider

    @property
    def description(self) -> str:
        """The first line of the component's docstring."""
        return (inspect.getdoc(self.component) or "").partition("\n")[0]

    @property
    def file(self) -> str:
        """The source file of the component."""
        return inspect.getsourcefile(self.component) or "?"


class Registry:
    """Components by kind and name; a plugin fills it in its `imginav_components` hook."""

    def __init__(self) -> None:
        self._registrations: dict[tuple[str, str], Registration] = {}
        self._provider = Provider("imginav", "?", "?")

    def add(self, kind: str, name: str, component: type[Component]) -> None:
        """Register a component class under a kind and a name.

        Raises UserError where the class is not a component of that kind, or the name is taken.
        """
        if fault := _fault_of(kind, component):
            raise UserError(f"{self._provider} registers {kind} {name!r}, but {fault}")
        if taken := self._registrations.get((kind, name)):
            raise UserError(
                f"{kind} {name!r} is provided twice, by {taken.provider} and by {self._provider}; "
                f"uninstall one of them or leave it out with {DISABLE}={taken.provider.entry_point}"
            )
        self._registrations[kind, name] = Registration(kind, name, component, self._provider)

    def find(self, kind: str, name: str) -> type[Component]:
        """Return the class of a component, or raise LookupError with a sentence that lists what is installed."""
        try:
            return self._registrations[kind, name].component
        except KeyError:
            installed = {r.name: r.provider.distribution for r in self if r.kind == kind}
            listing = ", ".join(f"{known} ({installed[known]})" for known in nearest(name, installed))
            raise LookupError(
                f"no {kind} {shown(name)} is installed{did_you_mean(name, installed)}; "
                f"installed are: {listing or 'none of this kind'}"
            ) from None

    def name_of(self, component: type[Component]) -> str:
        """Return the name under which a component class is registered."""
        return next(r.name for r in self if r.component is component)

    def load(self, entry_point: importlib.metadata.EntryPoint, plugins: pluggy.PluginManager) -> None:
        """Import one plugin, and take in what it provides."""
        self._provider = _provider(entry_point)
        try:
            plugin = entry_point.load()
        except Exception as error:  # a plugin may fail in any way while it is imported
            raise UserError(
                f"{self._provider} cannot be loaded: {type(error).__name__}: {error}; "
                f"repair or uninstall it, or leave it out with {DISABLE}={entry_point.name}"
            ) from error
        _register(plugins, plugin, self._provider)
        others = [other for other in plugins.get_plugins() if other is not plugin]
        plugins.subset_hook_caller("imginav_components", others)(registry=self)

    def __iter__(self) -> Iterator[Registration]:
        """The registrations by kind and name."""
        return iter(self._registrations[key] for key in sorted(self._registrations))


def installed() -> Registry:
    """Return a registry of the components of all installed plugins that are not left out."""
    registry = Registry()
    plugins = pluggy.PluginManager(PROJECT)
    plugins.add_hookspecs(PluginSpecs)
    seen: dict[str, importlib.metadata.EntryPoint] = {}
    for entry_point in _entry_points():
        if twin := seen.get(entry_point.name):
            raise UserError(
                f"{_provider(twin)} and {_provider(entry_point)} use the same entry-point name; "
                f"uninstall one of them, or leave one out with {DISABLE}={_provider(twin).distribution}"
            )
        seen[entry_point.name] = entry_point
        registry.load(entry_point, plugins)
    return registry


def _entry_points() -> Iterable[importlib.metadata.EntryPoint]:
    disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")}
    # A distribution that is found twice on sys.path (an editable install and its source) is one distribution.
    found = {
        (_provider(e).distribution, e.name): e
        for e in importlib.metadata.entry_points(group=GROUP)
        if not disabled & {e.name, _provider(e).distribution}
    }
    return [found[key] for key in sorted(found)]


def _provider(entry_point: importlib.metadata.EntryPoint) -> Provider:
    distribution = entry_point.dist
    if distribution is None:
        return Provider("an unknown distribution", "?", entry_point.name)
    return Provider(distribution.name, distribution.version, entry_point.name)


def _register(plugins: pluggy.PluginManager, plugin: object, provider: Provider) -> None:
    try:
        plugins.register(plugin, provider.entry_point)
        plugins.check_pending()
    except pluggy.PluginValidationError as error:
        raise UserError(
            f"{provider} has a hook that imginav does not know or cannot call: {_one_line(error)}; "
            "a plugin's module has one hook, imginav_components(registry)"
        ) from error
    except ValueError as error:
        raise UserError(f"{provider} points to a module that another entry point has registered already") from error
    if not plugins.get_hookcallers(plugin):
        raise UserError(
            f"{provider} offers nothing: its module has no function imginav_components(registry) marked @hookimpl"
        )


def _fault_of(kind: str, component: object) -> str:
    if not (inspect.isclass(component) and issubclass(component, Component)):
        return f"{component!r} is not a class that derives from one of imginav's components"
    # A class that is not decorated inherits attrs' marks, but its own fields are none.
    if "__attrs_attrs__" not in vars(component):
        return f"{component.__name__} is not a frozen attrs class: decorate it with @frozen(kw_only=True)"
    if getattr(component, "kind", None) != kind:
        return f"{component.__name__} is of kind {getattr(component, 'kind', None)!r}"
    if missing := sorted(getattr(component, "__abstractmethods__", ())):
        return f"{component.__name__} does not define {', '.join(missing)}"
    return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
