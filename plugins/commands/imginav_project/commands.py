"""The commands that begin a project: init, new; no logic.

What a command needs is imported inside of its function.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from imginav.plugin.commands import Commands
from imginav.plugin.hookspecs import hookimpl
from imginav_project.kinds import KINDS


def init(options: argparse.Namespace) -> int:
    """Write the phases and an imginav.toml into a folder, to work in; nothing is overwritten."""
    from imginav_project.working_folder import begin, next_steps

    begin(options.folder)
    print(next_steps(options.folder))
    return 0


def new(options: argparse.Namespace) -> int:
    """Write the package of a plugin, with a component that works and its tests; nothing is overwritten."""
    from imginav.plugin.registry import installed
    from imginav_project.plugin_package import PluginPackage, next_steps, write

    package = PluginPackage(name=options.name, kind=options.kind)
    folder = write(package, options.to or Path(package.distribution), installed())
    print(next_steps(package, folder))
    return 0


def _add_init(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, nargs="?", default=Path(), help="the folder (default: the present one)")


def _add_new(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", choices=("plugin",), help="what to write")
    command.add_argument("name", metavar="NAME", help="what manifests call it, such as sharpness; a command's name")
    command.add_argument(
        "--kind", default="loss", choices=tuple(KINDS), help="the kind of component, or command (default: loss)"
    )
    command.add_argument("--to", type=Path, metavar="FOLDER", help="the folder to write (default: imginav-NAME)")


@hookimpl
def imginav_commands(commands: Commands) -> None:
    """Add the commands that begin a project."""
    commands.add("init", init, _add_init)
    commands.add("new", new, _add_new)
