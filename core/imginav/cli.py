"""The command line: it lists the commands of all installed plugins, runs one, and turns its end into an exit status.

Nothing that takes long to import is imported here: `--help` must not wait for torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from imginav.errors import UserError
from imginav.exit_status import INTERRUPTED, REQUEUE, USER_ERROR
from imginav.plugin.commands import Commands, add_installed
from imginav.processes.launcher import are_several
from imginav.processes.stop_request import Interrupted, StopRequest
from imginav.study import commands as core_commands
from imginav.study.command_options import shared_options

PROGRAM = "imginav"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    It is 2 for an error that the user can fix, with one clear message, and 85 for a run that was stopped with its state
    saved.
    """
    options = argparse.Namespace(stop_request=StopRequest(), resume="auto")
    try:
        _parser(_commands()).parse_args(arguments, options)
        from imginav.terminal import stream_lines

        stream_lines()
        if not options.command.several_processes:
            _refuse_several_processes()
        status: int = options.command.run(options)
    except UserError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return USER_ERROR
    except Interrupted as error:
        again = "the same command" if options.resume == "auto" else "the same command without --resume"
        print(f"{PROGRAM}: stopped by {error}, state saved; run {again} to resume", file=sys.stderr)
        return REQUEUE
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _commands() -> Commands:
    """Return the core's own commands, and those of all installed plugins."""
    commands = Commands()
    core_commands.add_commands(commands)
    add_installed(commands)
    return commands


def _refuse_several_processes() -> None:
    if are_several():
        raise UserError("torchrun has started several processes, and only imginav run trains in several; leave it out")


def _parser(commands: Commands) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Choose and train the autoencoder for latent diffusion over drawn indoor layouts."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version(PROGRAM)}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    shared = shared_options()
    for command in commands:
        provider = command.provider
        origin = "" if provider.distribution == PROGRAM else f" [{provider.distribution} {provider.version}]"
        subparser = subparsers.add_parser(
            command.name,
            parents=[shared[name] for name in command.options],
            help=_escaped(command.summary + origin),
            description=_escaped(command.description),
        )
        command.add_arguments(subparser)
        subparser.set_defaults(command=command)
    return parser


def _escaped(text: str) -> str:
    """Return text as argparse shows it as it is."""
    return text.replace("%", "%%")
