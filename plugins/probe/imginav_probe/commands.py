"""The command `probe`; no logic.

What it needs is imported inside of its function, because torch takes seconds to import.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from imginav.plugin.commands import Commands
from imginav.plugin.hookspecs import hookimpl
from imginav.study.command_options import positive
from imginav.study.phase_files import find_phase


def probe(options: argparse.Namespace) -> int:
    """Measure what diffusion makes of autoencoders: a small model is trained on the latents of each."""
    with options.stop_request.install_handlers():
        from imginav.plugin.registry import installed
        from imginav.study.command_options import study_options
        from imginav_probe.targets import ProbeOptions, probe_all

        wanted = ProbeOptions(
            paths=tuple(options.paths),
            type=options.type,
            values={
                name: value
                for name in ("steps", "seeds", "samples", "condition")
                if (value := getattr(options, name)) is not None
            },
            to=options.to,
            study=study_options(options),
        )
        probe_all(wanted, installed(), options.stop_request)
    return 0


def _subject(text: str) -> Path:
    """Return the path that is named, or the file of the phase that is."""
    return find_phase(text) or Path(text)


def _add_probe(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "paths",
        type=_subject,
        nargs="+",
        metavar="RUN|CHECKPOINT|EXPORT|PHASE",
        help="a run, by name or folder, a checkpoint (.pt), a folder that export wrote, or a phase (1.1, or its file): "
        "its finished experiments",
    )
    command.add_argument("--steps", type=positive, metavar="N", help="optimizer steps of the small model")
    command.add_argument("--seeds", type=positive, metavar="K", help="trainings, whose spread is shown")
    command.add_argument("--samples", type=positive, metavar="N", help="samples that are measured")
    command.add_argument(
        "--condition", choices=("none", "walls"), help="walls: also measure how well given walls come back"
    )
    command.add_argument("--type", default="flow", metavar="PROBE", help="the installed probe (default: flow)")
    command.add_argument(
        "--to", type=Path, metavar="FOLDER", help="where to write (default: beside each checkpoint or export)"
    )


@hookimpl
def imginav_commands(commands: Commands) -> None:
    """Add the command that probes autoencoders."""
    commands.add("probe", probe, _add_probe, options=("scale", "loading"))
