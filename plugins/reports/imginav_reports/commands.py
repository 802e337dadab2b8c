"""The command `evaluate`; no logic.

What it needs is imported inside of its function, because torch takes seconds to import and `--help` must not wait for
it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from imginav.plugin.commands import Commands
from imginav.plugin.hookspecs import hookimpl


def evaluate(options: argparse.Namespace) -> int:
    """Evaluate the weights of a checkpoint, and write metrics, pictures and a page."""
    from imginav.plugin.registry import installed
    from imginav_reports.evaluate_checkpoint import Request, evaluate_checkpoint
    from imginav_reports.run_summary import summary
    from imginav_reports.run_weights import weights_named

    request = Request(
        checkpoint=weights_named(options.checkpoint, options.site),
        data=options.data,
        to=options.to,
        site=options.site,
        settings=tuple(options.settings),
    )
    evaluation = evaluate_checkpoint(request, installed())
    print(summary(evaluation, request.folder))
    return 0


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "checkpoint", type=Path, metavar="RUN|CHECKPOINT", help="a run, by name or folder, or a checkpoint (.pt)"
    )
    command.add_argument(
        "--data",
        type=Path,
        metavar="LIST",
        help="a CSV file of other layouts, or a folder of them, to evaluate all of them",
    )
    command.add_argument(
        "--to", type=Path, metavar="FOLDER", help="where to write (default: CHECKPOINT without .pt, with _evaluation)"
    )


@hookimpl
def imginav_commands(commands: Commands) -> None:
    """Add the command that evaluates a checkpoint."""
    commands.add("evaluate", evaluate, _add_evaluate, options=("loading",))
