"""The core's own commands: run, study, winner; no logic.

What a command needs is imported inside of its function, because torch takes seconds to import and `--help` must not
wait for it. Commands that train listen to signals before that.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from imginav.errors import UserError
from imginav.exit_status import FAILED
from imginav.plugin.commands import Commands, OptionGroup
from imginav.study.command_options import add_name, add_only, add_phase, positive, study_options
from imginav.study.phase_files import study_folder, study_path

if TYPE_CHECKING:
    from imginav.plugin.registry import Registry


def add_commands(commands: Commands) -> None:
    """Add the core's own commands."""
    trains: tuple[OptionGroup, ...] = ("scale", "loading", "running")
    commands.add("run", run, _add_run, options=trains, several_processes=True)
    commands.add("study", study, _add_study, options=trains)
    commands.add("winner", winner, _add_winner, options=("scale", "loading"))


def run(options: argparse.Namespace) -> int:
    """Train the experiments of a phase, compare them, and declare the winner."""
    failures: dict[str, str] = {}
    with options.stop_request.install_handlers():
        from imginav.plugin.plugin_faults import plugin_faults_named
        from imginav.plugin.registry import installed
        from imginav.processes.distributed import joined
        from imginav.processes.torchrun import launch
        from imginav.runs.experiment import follow_experiment, run_experiment, run_folder
        from imginav.runs.own_job import note_own_job
        from imginav.study.phases import chosen, open_phase

        how = study_options(options)
        with joined(options.stop_request) as world, plugin_faults_named():
            registry = installed()
            note_own_job(registry, os.environ)
            resolved = how.load(options.phase, registry)
            experiments = chosen(resolved, options.only, _index(options.index, registry))
            if options.extend:
                how = how.extended(experiments, options.extend)
                resolved = how.load(options.phase, registry)
                experiments = chosen(resolved, options.only, _index(options.index, registry))
            how.launch.check(world, resolved.manifest.machine.device)
            if how.launch.is_needed and len(experiments) == 1:
                launch(how.launch, how.process.arguments_for(experiments[0]), how.stop_request, concludes=True)
                return 0
            phase = open_phase(resolved, registry.hooks, world.log_of_phase, world)
            if len(experiments) > 1:
                failures = phase.run(experiments, how)
            elif world.is_first:
                run_experiment(
                    experiments[0],
                    world.log,
                    resume=how.resume,
                    stop_request=how.stop_request,
                    world=world,
                    hooks=registry.hooks,
                )
                registry.hooks.run_concluded(run_folder(experiments[0]))
            else:
                follow_experiment(experiments[0], world, how.stop_request)
            if world.concludes:
                phase.conclude()
    for name, reason in failures.items():
        print(f"imginav: {name} failed: {reason}", file=sys.stderr)
    return FAILED if failures else 0


def study(options: argparse.Namespace) -> int:
    """Run all phases of a folder in the order of their dependencies."""
    with options.stop_request.install_handlers():
        from imginav.plugin.registry import installed
        from imginav.study.phases import phases_in_order, run_study

        phases_in_order(folder := options.folder or study_folder())
        registry, how = installed(), study_options(options)
        registry.hooks.study_started(folder, options)
        return 0 if run_study(folder, registry, how) else FAILED


def winner(options: argparse.Namespace) -> int:
    """Show the winner of a phase, or decide who it is."""
    from imginav.plugin.registry import installed
    from imginav.study.phases import open_phase

    registry = installed()
    phase = open_phase(study_options(options).load(options.phase, registry), registry.hooks)
    if options.set_to:
        phase.set_winner(options.set_to, options.because)
    else:
        phase.conclude(asked=True, of_finished=options.of_finished)
    return 0


def _index(text: str | None, registry: Registry) -> int | None:
    from imginav.runs.own_job import place_in_array

    if text is None or text.isdigit():
        return None if text is None else int(text)
    if text != "auto":
        raise UserError(f"--index {text}: expected a number from 1 on, or auto in a job array")
    return place_in_array(registry, os.environ)


def _add_run(command: argparse.ArgumentParser) -> None:
    add_phase(command)
    one = command.add_mutually_exclusive_group()
    add_only(one)
    one.add_argument("--index", metavar="N", help="the Nth experiment, from 1 on; auto: this element of a job array")
    add_name(command)
    start = command.add_mutually_exclusive_group()
    start.add_argument(
        "--resume",
        default="auto",
        metavar="auto|never|PATH",
        help="auto (default): resume what is not finished; never: train from the start; or a checkpoint to resume from",
    )
    start.add_argument(
        "--extend",
        type=positive,
        metavar="N",
        help="train a finished run for N more epochs, by the learning-rate schedule of the longer training",
    )
    command.add_argument("--nodes", type=positive, default=1, metavar="N", help="machines; give this command on each")
    command.add_argument(
        "--rendezvous", default="", metavar="HOST:PORT", help="where several machines meet: a free port of one of them"
    )


def _add_study(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "folder", type=study_path, nargs="?", help="the folder of the phases (default: phases/, or else imginav's own)"
    )
    command.add_argument(
        "--resume",
        default="auto",
        choices=("auto", "never"),
        help="auto (default): resume what is not finished; never: train everything from the start",
    )


def _add_winner(command: argparse.ArgumentParser) -> None:
    add_phase(command)
    add_name(command)
    decision = command.add_mutually_exclusive_group()
    decision.add_argument("--of-finished", action="store_true", help="let the rule decide among the finished ones")
    decision.add_argument("--set-to", metavar="NAME", help="make this experiment the winner, whatever the rule says")
    command.add_argument("--because", default="", metavar="WHY", help="the reason for --set-to, kept in winner.toml")
