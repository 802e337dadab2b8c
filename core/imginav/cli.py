"""The command line: one function for each command, no logic.

What a command needs is imported inside of its function, because torch takes seconds to import and `--help` must not
wait for it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from imginav.errors import UserError

USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 2 for what the user can mend, with one clear message."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except UserError as error:
        print(f"imginav: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("imginav: interrupted; what earlier epochs left in the run folder stands", file=sys.stderr)
        return INTERRUPTED
    return status


def run(options: argparse.Namespace) -> int:
    """Train the experiment of a phase."""
    from imginav import loading, registry, report
    from imginav.run import run_experiment

    resolved = loading.load(
        options.phase, registry.installed(), site=options.site, settings=options.settings, scale=options.scale
    )
    outcome = run_experiment(resolved)
    print(report.summary(outcome, resolved.manifest.output.experiments / outcome.experiment))
    return 0


def plugins(_: argparse.Namespace) -> int:
    """List the installed components."""
    from imginav import registry
    from imginav.listing import print_components

    print_components(registry.installed())
    return 0


def schema(_: argparse.Namespace) -> int:
    """Print a JSON Schema of a phase's file, by which an editor completes and checks it."""
    from imginav import registry
    from imginav.schema import schema_text

    print(schema_text(registry.installed()), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="imginav", description="Choose and train the autoencoder for latent diffusion over drawn indoor layouts."
    )
    parser.add_argument("--version", action="version", version=f"imginav {version('imginav')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser("run", help="train the experiment of a phase", description=run.__doc__)
    command.add_argument("phase", type=Path, help="the phase's manifest, such as phases/1_5.toml")
    scale = command.add_mutually_exclusive_group()
    scale.add_argument(
        "--full", dest="scale", action="store_const", const="full", help="full scale, also on the embedded layouts"
    )
    scale.add_argument(
        "--trial", dest="scale", action="store_const", const="trial", help="trial scale, also on layouts of your own"
    )
    command.add_argument("--site", type=Path, metavar="FILE", help="the site file (default: imginav.toml, if there)")
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set any value of the manifest, such as train.epochs=20; may be repeated",
    )
    command.set_defaults(command=run, scale="auto")

    command = commands.add_parser("plugins", help="list the installed components", description=plugins.__doc__)
    command.set_defaults(command=plugins)

    command = commands.add_parser("schema", help="print a JSON Schema for editors", description=schema.__doc__)
    command.set_defaults(command=schema)
    return parser
