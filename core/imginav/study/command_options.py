"""Options that several commands share, and what they say of how phases are loaded and run."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from imginav.study.phase_files import phase_file, phase_or_folder

if TYPE_CHECKING:
    from imginav.plugin.run_view import LoadedPhase
    from imginav.runs.resuming import Resume
    from imginav.study import phases


def study_options(options: argparse.Namespace) -> phases.Options:
    """Return how a command loads and runs phases."""
    from imginav.processes.torchrun import Launch
    from imginav.study import phases

    return phases.Options(
        site=options.site,
        settings=(*options.settings, *_named(options)),
        plugin_files=tuple(path.resolve() for path in options.plugin_files),
        scale=options.scale,
        require_winners=getattr(options, "require_winners", False),
        jobs=getattr(options, "jobs", 1),
        resume=_resume(getattr(options, "resume", "auto")),
        launch=Launch(
            gpus=getattr(options, "gpus", 1),
            nodes=getattr(options, "nodes", 1),
            rendezvous=getattr(options, "rendezvous", ""),
        ),
        stop_request=options.stop_request,
    )


def load_phase(phase: Path | str, options: argparse.Namespace) -> LoadedPhase:
    """Return a resolved phase, as a command with the options `loading` and `scale` was asked to load it.

    `phase` is its file, or its number or name as `imginav run` takes it. Raises UserError where it cannot be loaded.
    """
    from imginav.plugin.registry import installed

    return study_options(options).load(phase_file(str(phase)), installed())


def _named(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the setting by which `--name` renames what a phase trains; written as TOML, a number is a name as well."""
    name = getattr(options, "name", None)
    return () if name is None else (f'phase.experiment="{name}"',)


def _resume(text: str) -> Resume:
    named: dict[str, Resume] = {"auto": "auto", "never": "never", "extend": "extend"}
    return named.get(text) or Path(text)


def scale_options() -> argparse.ArgumentParser:
    """Return the options that force a scale."""
    options = argparse.ArgumentParser(add_help=False)
    scale = options.add_mutually_exclusive_group()
    scale.add_argument(
        "--full", dest="scale", action="store_const", const="full", help="full scale, also on the embedded layouts"
    )
    scale.add_argument(
        "--trial", dest="scale", action="store_const", const="trial", help="trial scale, also on layouts of your own"
    )
    scale.add_argument(
        "--quick", dest="scale", action="store_const", const="quick", help="a trial of a minute or two, to see a page"
    )
    options.set_defaults(scale="auto")
    return options


def loading_options() -> argparse.ArgumentParser:
    """Return the options of every command that reads manifests."""
    options = plugin_options()
    options.add_argument("--site", type=Path, metavar="FILE", help="the site file (default: imginav.toml, if there)")
    options.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set any value of the manifest, such as train.epochs=20; may be repeated",
    )
    return options


def plugin_options() -> argparse.ArgumentParser:
    """Return the option of every command that loads components."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--plugin",
        dest="plugin_files",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file with components of your own; may be repeated",
    )
    return options


def running_options() -> argparse.ArgumentParser:
    """Return the options of the commands that train."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--jobs", type=positive, default=1, metavar="N", help="experiments at a time (default: 1)")
    options.add_argument(
        "--gpus", type=positive, default=1, metavar="N", help="of this machine, for each experiment (default: 1)"
    )
    options.add_argument(
        "--require-winners", action="store_true", help="refuse to run without the winners that a phase takes"
    )
    return options


def shared_options() -> dict[str, argparse.ArgumentParser]:
    """Return the groups of options that commands share, by the name under which a command asks for them."""
    return {
        "scale": scale_options(),
        "loading": loading_options(),
        "running": running_options(),
        "plugins": plugin_options(),
    }


def add_name(command: argparse._ActionsContainer) -> None:
    """Add the option that names what a phase trains."""
    command.add_argument(
        "--name", metavar="NAME", help="of the run folder, and of its files (default: the phase's); keeps runs apart"
    )


def add_phase(command: argparse.ArgumentParser) -> None:
    """Add the argument that names a phase."""
    command.add_argument(
        "phase", type=phase_file, metavar="PHASE", help="its number, such as 1.5, its name or its file"
    )


def add_phases(command: argparse._ActionsContainer) -> None:
    """Add the argument that names phases or folders of them; without any, the working folder's phases are meant."""
    command.add_argument(
        "paths",
        type=phase_or_folder,
        nargs="*",
        metavar="PHASE|FOLDER",
        help="phases, or folders of them (default: phases/, or else imginav's own)",
    )


def add_only(command: argparse._ActionsContainer) -> None:
    """Add the option that names experiments of a phase."""
    command.add_argument("--only", action="append", default=[], metavar="NAME", help="this experiment; may be repeated")


def seconds(text: str) -> float:
    """Return a number of seconds that can be waited."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.1 <= number <= 86400:
        raise argparse.ArgumentTypeError(f"expected 0.1 to 86400 seconds, found {text!r}")
    return number


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return an argparse `type` for whole numbers from `least` to `most`, or without an upper bound."""
    expected = f"a whole number of at least {least:,}" if most is None else f"a whole number from {least:,} to {most:,}"

    def parse(text: str) -> int:
        number = int(text) if text.isdecimal() else None
        if number is None or number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
        return number

    return parse


positive = whole_number(1)
"""An argparse `type` for whole numbers of at least 1."""
