"""`imginav.train`: `imginav run` for Python users."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from imginav.errors import UserError
from imginav.manifest.winners import Winner
from imginav.plugin.commands import Commands
from imginav.plugin.file_plugins import use_files
from imginav.plugin.registry import installed
from imginav.runs.experiment import run_folder
from imginav.runs.run_folder import REPORT
from imginav.study import commands as study_commands
from imginav.study.command_options import shared_options, study_options
from imginav.study.phase_files import phase_file
from imginav.study.phases import chosen
from imginav.study.selection import recorded
from imginav_api.page import Page
from imginav_api.run import Run
from imginav_api.settings import as_settings
from imginav_api.stopping import KernelStopRequest, stops_as_keyboard_interrupt
from imginav_api.table import Table

SCALES = ("auto", "full", "trial", "quick")


@frozen
class TrainedPhase:
    """The runs of a sweep, the winner among them, and the page that compares them."""

    runs: dict[str, Run]  # by the name of the experiment in the phase, such as L3, with the seed if there are several
    winner: Winner | None  # as winner.toml records it; None if none is declared
    report: Page

    @property
    def metrics(self) -> Table:
        """What was measured of each run after its training, a row each."""
        return Table([{"run": name, **run.evaluation.metrics} for name, run in self.runs.items()])

    def _repr_html_(self) -> str:
        """Return the comparison, for notebooks."""
        return self.report._repr_html_()


def train(
    phase: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    scale: Literal["auto", "full", "trial", "quick"] = "auto",
    only: str | Sequence[str] = (),
    resume: str | Path = "auto",
    extend: int | None = None,
    jobs: int = 1,
    site: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
) -> Run | TrainedPhase:
    """Train a phase as `imginav run` does, and return its run; of a sweep, all of its runs and the winner.

    `phase` is a number such as "1.5", a name or a file. `settings` are values of the manifest by dotted key, such as
    {"train.epochs": 3}. `name` names the run folder. `scale`, `only`, `resume`, `extend`, `jobs`, `site` and `plugins`
    are the options of the command; the Python files of `plugins` stay in use for all later calls. A run that is
    finished already is returned as it is.

    An interrupt (Ctrl-C, the stop button of a notebook) saves the state and raises KeyboardInterrupt; the same call
    resumes. Raises UserError for whatever the command refuses, and if an experiment of a sweep fails.
    """
    if scale not in SCALES:
        raise UserError(f"scale = {scale!r}: expected {', '.join(SCALES)}")
    for option, value in (("jobs", jobs), ("extend", extend)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"{option} = {value!r}: expected a number of at least 1")
    options = _defaults(phase_file(str(phase)))
    options.plugin_files = [Path(file) for file in plugins]
    use_files(options.plugin_files)
    options.settings = list(as_settings(settings))
    options.name, options.scale, options.jobs = name, scale, jobs
    options.only = [only] if isinstance(only, str) else list(only)
    options.resume, options.extend = str(resume), extend
    options.site = Path(site) if site is not None else None
    again = "call it again" if options.resume == "auto" else "call it again without resume"
    with stops_as_keyboard_interrupt(again):
        failed = options.run(options)
    resolved = study_options(options).load(options.phase, installed())
    runs = {resolved.label(one): Run(run_folder(one).root) for one in chosen(resolved, options.only)}
    if failed:
        unfinished = ", ".join(label for label, run in runs.items() if not _is_finished(run))
        raise UserError(f"{phase}: these experiments have failed: {unfinished}; the lines above say why")
    if len(runs) == 1:
        return next(iter(runs.values()))
    return TrainedPhase(runs, recorded(resolved), Page(resolved.shared / REPORT))


def _is_finished(run: Run) -> bool:
    try:
        return run.state == "finished"
    except UserError:  # it has never begun
        return False


def _defaults(phase: Path) -> argparse.Namespace:
    """Return the options of `imginav run` as they are where only the phase is given."""
    commands = Commands()
    study_commands.add_commands(commands)
    command = next(command for command in commands if command.name == "run")
    shared = shared_options()
    parser = argparse.ArgumentParser(parents=[shared[name] for name in command.options])
    command.add_arguments(parser)
    parser.set_defaults(run=command.run)
    return parser.parse_args([str(phase)], argparse.Namespace(stop_request=KernelStopRequest()))
