"""The command line: it lists the commands of all installed plugins, runs one, and turns its end into an exit status.

Nothing that takes long to import is imported here: `--help` must not wait for torch.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import NoReturn

from imginav.errors import UserError, did_you_mean
from imginav.exit_status import INTERRUPTED, REQUEUE, USER_ERROR
from imginav.plugin.commands import Commands, add_installed
from imginav.plugin.file_plugins import use_files
from imginav.plugin.plugin_faults import plugin_faults_named
from imginav.processes.launcher import are_several
from imginav.processes.stop_request import Interrupted, StopRequest
from imginav.study import commands as core_commands
from imginav.study.command_options import shared_options
from imginav.verbosity import DEBUG, QUIET, shows_traceback

PROGRAM = "imginav"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    It is 2 for an error that the user can fix, with one clear message, and 85 for a run that was stopped with its state
    saved.
    """
    options = argparse.Namespace(stop_request=StopRequest(), resume="auto", debug=False, quiet=False)
    given = sys.argv[1:] if arguments is None else arguments
    options.debug = "--debug" in given  # also where the rest of the line is wrong
    try:
        with plugin_faults_named():
            commands = _commands()
            _parse(commands, given, options)
            with _environment(options):
                status: int = options.command.run(options)
    except UserError as error:
        if options.debug or shows_traceback(error):
            traceback.print_exception(error)
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


@contextmanager
def _environment(options: argparse.Namespace) -> Iterator[None]:
    """Prepare this process, and the environment of those that the command starts, for as long as it runs."""
    from imginav.terminal import stream_lines  # rich takes a while to import

    stream_lines()
    if not options.command.several_processes and are_several():
        raise UserError("torchrun has started several processes, and only imginav run trains in several; leave it out")
    before = dict(os.environ)
    os.environ.update({name: "1" for name, given in ((DEBUG, options.debug), (QUIET, options.quiet)) if given})
    try:
        use_files(getattr(options, "plugin_files", ()))
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are UserError, like all others that a user can cause."""

    def error(self, message: str) -> NoReturn:
        command = self.prog.removeprefix(PROGRAM).strip()
        place, remedy = (f"{command}: ", f"{PROGRAM} help {command}") if command else ("", f"{PROGRAM} --help")
        raise UserError(f"{place}{message}; {remedy} shows what there is")


def _parse(commands: Commands, arguments: Sequence[str], options: argparse.Namespace) -> None:
    """Parse the arguments; raises UserError, with the nearest name for a command or an option that does not exist."""
    names = [command.name for command in commands]
    name = next((argument for argument in arguments if not argument.startswith("-")), names[0])
    if name not in names:
        raise UserError(f"there is no command {name!r}{did_you_mean(name, names)}; {PROGRAM} --help lists all")
    _, unknown = _parser(commands).parse_known_args(arguments, options)
    for wrong in (argument.partition("=")[0] for argument in unknown):
        known = re.findall(r"--[a-z-]+", options.parser.format_usage())
        what = f"unknown option {wrong!r}{did_you_mean(wrong, known)}" if wrong.startswith("-") else ""
        options.parser.error(what or f"unexpected argument {wrong!r}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    return _parser(_commands())


def _parser(commands: Commands) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog=PROGRAM, description="Choose and train the autoencoder for latent diffusion over drawn indoor layouts."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version(PROGRAM)}")
    _add_common(parser)
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
        _add_common(subparser)
        subparser.set_defaults(command=command, parser=subparser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that stand before or behind any command; one of the same name that a command has goes first."""
    for name, text in (
        ("--debug", "show the traceback of any error"),
        ("--quiet", "print only warnings, errors and results: no progress, no log lines"),
    ):
        with suppress(argparse.ArgumentError):
            # No default: that of the command would overwrite what was given before it.
            parser.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=text)


def _escaped(text: str) -> str:
    """Return text as argparse shows it as it is."""
    return text.replace("%", "%%")
