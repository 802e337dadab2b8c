"""The commands of `imginav`: each is added by a plugin, with its options, and knows who provides it."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Literal

import attrs

from imginav.errors import UserError
from imginav.plugin.discovery import DISABLE, Provider, load_plugins
from imginav.plugin.hookspecs import hookspec

GROUP = "imginav.commands"
"""The entry-point group of commands."""

Run = Callable[[argparse.Namespace], int]
"""Runs a command with its parsed options, and returns its exit status."""

AddArguments = Callable[[argparse.ArgumentParser], None]
"""Adds the arguments of a command to its parser."""


OptionGroup = Literal["loading", "scale", "running", "plugins"]
"""Options that several commands share."""


def no_arguments(_: argparse.ArgumentParser) -> None:
    """Leave a command without arguments."""


@attrs.frozen
class Command:
    """One command of `imginav`."""

    name: str
    run: Run
    add_arguments: AddArguments
    options: tuple[OptionGroup, ...]  # groups of options that it shares with others, before its own
    several_processes: bool  # whether torchrun may start it in several processes
    provider: Provider

    @property
    def summary(self) -> str:
        """The first line of its function's docstring, for the list of all commands."""
        return (inspect.getdoc(self.run) or "").partition("\n")[0].removesuffix(".")

    @property
    def description(self) -> str:
        """The docstring of its function, for its own help."""
        return inspect.getdoc(self.run) or ""


class Commands:
    """The commands of all installed plugins; a plugin fills it in its `imginav_commands` hook."""

    def __init__(self) -> None:
        self._commands: dict[str, Command] = {}
        self.provider = Provider("imginav", version("imginav"), "")  # of what is added next

    def add(
        self,
        name: str,
        run: Run,
        add_arguments: AddArguments = no_arguments,
        *,
        options: Sequence[OptionGroup] = (),
        several_processes: bool = False,
    ) -> None:
        """Add a command: `imginav NAME` calls `run` with the parsed options, and exits with the status it returns.

        The docstring of `run` is the help of the command. `options` are groups of options that it shares with others:
        `loading` (--site, --set, --plugin), `scale` (--full, --trial), `running` (--jobs, --gpus, --require-winners),
        and `plugins` (--plugin) for commands that load components, and no phase. What takes long to import, such as
        torch, is imported inside of `run`, since every call of `imginav` builds the parsers of all commands. Raises
        UserError where the name is taken, or is no word of small letters and dashes.
        """
        if not (name.replace("-", "").isalnum() and name.islower()):
            raise UserError(f"{self.provider} adds the command {name!r}; take a name of small letters and dashes")
        if taken := self._commands.get(name):
            raise UserError(
                f"the command {name!r} is provided twice, by {taken.provider} and by {self.provider}; "
                f"uninstall one of them or leave it out with {DISABLE}={self.provider.entry_point}"
            )
        self._commands[name] = Command(name, run, add_arguments, tuple(options), several_processes, self.provider)

    def __iter__(self) -> Iterator[Command]:
        """The commands: those of imginav first, in the order in which they were added."""
        own = [command for command in self._commands.values() if command.provider.distribution == "imginav"]
        return iter([*own, *(command for command in self._commands.values() if command not in own)])


class CommandSpecs:
    """The hooks of the entry-point group `imginav.commands`; every call of `imginav` imports their modules."""

    @hookspec
    def imginav_commands(self, commands: Commands) -> None:
        """Fires once at start, for each plugin: add commands with `commands.add(name, function, arguments)`."""


def add_installed(commands: Commands) -> None:
    """Add the commands of all installed plugins that are not left out."""
    for provider, plugins, plugin in load_plugins(GROUP, CommandSpecs):
        commands.provider = provider
        others = [other for other in plugins.get_plugins() if other is not plugin]
        plugins.subset_hook_caller("imginav_commands", others)(commands=commands)
