"""The installed components, by kind and name, and who provides them."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from pathlib import Path

import attrs
import pluggy

from imginav.errors import UserError, did_you_mean, nearest, shown
from imginav.plugin.components import Component
from imginav.plugin.discovery import DISABLE, Provider, load_plugins
from imginav.plugin.hookspecs import PROJECT, hookspec
from imginav.plugin.run_view import ConcludedPhase, FinishedRun, RunFiles

GROUP = "imginav"
"""The entry-point group of components and of hooks on events."""


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
        self.provider = Provider("imginav", "?", "?")  # of what is added next
        self.hooks = InstalledHooks(_no_plugins())

    def add(self, kind: str, name: str, component: type[Component]) -> None:
        """Register a component class under a kind and a name.

        Raises UserError where the class is not a component of that kind, or the name is taken.
        """
        if fault := _fault_of(kind, component):
            raise UserError(f"{self.provider} registers {kind} {name!r}, but {fault}")
        if taken := self._registrations.get((kind, name)):
            out = f"uninstall one of them or leave it out with {DISABLE}={taken.provider.entry_point}"
            remedy = "rename it in the file" if self.provider.is_file else out
            raise UserError(f"{kind} {name!r} is provided twice, by {taken.provider} and by {self.provider}; {remedy}")
        self._registrations[kind, name] = Registration(kind, name, component, self.provider)

    def find(self, kind: str, name: str) -> type[Component]:
        """Return the class of a component, or raise LookupError with a sentence that lists what is installed."""
        try:
            return self._registrations[kind, name].component
        except KeyError:
            installed = {r.name: r.provider.distribution for r in self if r.kind == kind}
            listing = ", ".join(f"{known} ({installed[known]})" for known in nearest(name, installed))
            alike = did_you_mean(name, installed)
            raise LookupError(
                f"no {kind} {shown(name)} is installed{alike}; installed are: {listing or 'none of this kind'}"
                + ("" if alike else "; one in a file of your own is added by --plugin FILE")
            ) from None

    def name_of(self, component: type[Component]) -> str:
        """Return the name under which a component class is registered."""
        return next(r.name for r in self if r.component is component)

    def __iter__(self) -> Iterator[Registration]:
        """The registrations by kind and name."""
        return iter(self._registrations[key] for key in sorted(self._registrations))


class PluginSpecs:
    """What an installed plugin offers beside commands: the hooks of the entry-point group `imginav`."""

    @hookspec
    def imginav_components(self, registry: Registry) -> None:
        """Fires once at start, for each plugin: register components with `registry.add(kind, name, class)`."""

    @hookspec
    def study_started(self, folder: Path, options: argparse.Namespace) -> None:
        """Fires once before the phases of a folder are run, with the options of the command; UserError prevents it."""

    @hookspec
    def run_finished(self, run: FinishedRun) -> None:
        """Fires once when a run's training has ended, on rank 0: evaluate its weights, write what people look at.

        The evaluation's hook is marked `tryfirst`, so that evaluation.json is there for all others; reports come last.
        An error that is raised here leaves the run unfinished, with its checkpoints; the same command finishes it.
        """

    @hookspec
    def run_concluded(self, folder: RunFiles) -> None:
        """Fires at the end of each command that trains a run, also if the run was finished before: print its result."""

    @hookspec
    def phase_concluded(self, concluded: ConcludedPhase) -> None:
        """Fires each time that the experiments of a phase were compared, with or without a winner."""


class InstalledHooks:
    """The one place from which the hooks of installed plugins are called."""

    def __init__(self, plugins: pluggy.PluginManager) -> None:
        self._plugins = plugins

    def study_started(self, folder: Path, options: argparse.Namespace) -> None:
        self._plugins.hook.study_started(folder=folder, options=options)

    def run_finished(self, run: FinishedRun) -> None:
        self._plugins.hook.run_finished(run=run)

    def run_concluded(self, folder: RunFiles) -> None:
        self._plugins.hook.run_concluded(folder=folder)

    def phase_concluded(self, concluded: ConcludedPhase) -> None:
        self._plugins.hook.phase_concluded(concluded=concluded)


def installed() -> Registry:
    """Return a registry of the components of all installed plugins that are not left out."""
    registry = Registry()
    for provider, plugins, plugin in load_plugins(GROUP, PluginSpecs):
        registry.hooks = InstalledHooks(plugins)
        registry.provider = provider
        others = [other for other in plugins.get_plugins() if other is not plugin]
        plugins.subset_hook_caller("imginav_components", others)(registry=registry)
    return registry


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


def _no_plugins() -> pluggy.PluginManager:
    plugins = pluggy.PluginManager(PROJECT)
    plugins.add_hookspecs(PluginSpecs)
    return plugins
