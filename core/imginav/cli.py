"""The command line: one function for each command, no logic.

What a command needs is imported inside of its function, because torch takes seconds to import and `--help` must not
wait for it. Commands that train listen to signals before that.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from imginav import handoff_commands, job_commands
from imginav.command_options import (
    add_only,
    loading_options,
    positive,
    running_options,
    scale_options,
    seconds,
    study_options,
)
from imginav.errors import UserError
from imginav.interruption import LEFT, Interrupted, Interruption
from imginav.launcher import are_several

if TYPE_CHECKING:
    from imginav.registry import Registry

FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    It is 2 for what the user can mend, with one clear message, and 85 for a run that left and goes on another time.
    """
    options = _parser().parse_args(arguments, argparse.Namespace(interruption=Interruption()))
    from imginav.listing import stream_lines

    stream_lines()
    try:
        if options.command is not run:
            _refuse_several_processes()
        status: int = options.command(options)
    except UserError as error:
        print(f"imginav: {error}", file=sys.stderr)
        return USER_ERROR
    except Interrupted as error:
        again = (
            "the same command" if getattr(options, "resume", "auto") == "auto" else "the same command without --resume"
        )
        print(f"imginav: left ({error}); {again} goes on where it was", file=sys.stderr)
        return LEFT
    except KeyboardInterrupt:
        print("imginav: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def run(options: argparse.Namespace) -> int:
    """Train the experiments of a phase, compare them, and declare the winner."""
    failures: dict[str, str] = {}
    with options.interruption.hearing():
        from imginav import distributed, jobs, registry, report, study
        from imginav.launching import launch
        from imginav.run import follow_experiment, run_experiment, run_folder

        how = study_options(options)
        with distributed.joined(options.interruption) as world:
            installed = registry.installed()
            jobs.note_own_job(installed, os.environ)
            resolved = how.load(options.phase, installed)
            experiments = study.chosen(resolved, options.only, _index(options.index, installed))
            how.launch.check(world, resolved.manifest.machine)
            if how.launch.is_needed and len(experiments) == 1:
                launch(how.launch, how.how.arguments_for(experiments[0]), how.interruption, concludes=True)
                return 0
            phase = study.open_phase(resolved, world.say_of_phase, world)
            if len(experiments) > 1:
                failures = phase.run(experiments, how)
            elif world.is_first:
                outcome = run_experiment(
                    experiments[0], world.say, resume=how.resume, interruption=how.interruption, world=world
                )
                print(report.summary(outcome, run_folder(experiments[0]).root))
            else:
                follow_experiment(experiments[0], world, how.interruption)
            if world.concludes:
                phase.conclude()
    for name, reason in failures.items():
        print(f"imginav: {name} failed: {reason}", file=sys.stderr)
    return FAILED if failures else 0


def study(options: argparse.Namespace) -> int:
    """Run all phases of a folder in the order of their dependences."""
    with options.interruption.hearing():
        from imginav import registry, study
        from imginav.checking import check, report_faults

        study.phases_in_order(options.folder)
        # What is wrong with the last phase is better known before the first one trains for a night.
        report_faults(check([options.folder], registry.installed(), study_options(options)))
        return 0 if study.run_study(options.folder, registry.installed(), study_options(options)) else FAILED


def evaluate(options: argparse.Namespace) -> int:
    """Measure what the weights of a checkpoint are worth, and write figures, pictures and a page."""
    from imginav import registry, report
    from imginav.evaluating import Request, evaluate_checkpoint

    request = Request(
        checkpoint=options.checkpoint,
        data=options.data,
        to=options.to,
        site=options.site,
        settings=tuple(options.settings),
    )
    outcome = evaluate_checkpoint(request, registry.installed())
    print(report.summary(outcome, request.folder))
    return 0


def watch(options: argparse.Namespace) -> int:
    """Show what runs are doing, from their files: epoch, losses, best, speed, time left."""
    from imginav.loading import SITE_FILE
    from imginav.watching import experiments_folder, watch

    with suppress(KeyboardInterrupt):  # the way to leave it
        watch(options.run or experiments_folder(options.site or SITE_FILE), every=options.every, once=options.once)
    return 0


def winner(options: argparse.Namespace) -> int:
    """Show the winner of a phase, or decide who it is."""
    from imginav import registry, study

    phase = study.open_phase(study_options(options).load(options.phase, registry.installed()))
    if options.set_to:
        phase.set_winner(options.set_to, options.because)
    else:
        phase.conclude(of_finished=options.of_finished)
    return 0


def check(options: argparse.Namespace) -> int:
    """Find everything that can be wrong with phases without training them; nothing is written."""
    from imginav import registry
    from imginav.checking import check, report_faults

    checked = check(options.paths, registry.installed(), study_options(options))
    print("\n".join(line for phase in checked for line in phase.lines))
    report_faults(checked)
    return 0


def plan(options: argparse.Namespace) -> int:
    """Show what the experiments of a phase will need, and every value with its origin; nothing is trained."""
    from imginav import registry, study
    from imginav.planning import show_plan

    phase = study.open_phase(study_options(options).load(options.phase, registry.installed()))
    show_plan(phase, study.chosen(phase.phase, options.only), measure=options.measure)
    return 0


def explain(options: argparse.Namespace) -> int:
    """Show each value of a run and where it came from, the whole way down."""
    from imginav import registry
    from imginav.explaining import explain

    print("\n".join(explain(options.run, registry.installed()).lines))
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


def _refuse_several_processes() -> None:
    if are_several():
        raise UserError("torchrun has started several processes, and only imginav run trains in several; leave it out")


def _index(text: str | None, registry: Registry) -> int | None:
    from imginav.jobs import place_in_array

    if text is None or text.isdigit():
        return None if text is None else int(text)
    if text != "auto":
        raise UserError(f"--index {text}: expected a number from 1 on, or auto in a job array")
    return place_in_array(registry, os.environ)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="imginav", description="Choose and train the autoencoder for latent diffusion over drawn indoor layouts."
    )
    parser.add_argument("--version", action="version", version=f"imginav {version('imginav')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    scale, loading, running = scale_options(), loading_options(), running_options()

    _add_training(commands, [scale, loading, running])
    command = commands.add_parser(
        "evaluate", parents=[loading], help="measure a checkpoint", description=evaluate.__doc__
    )
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint (.pt) of any epoch")
    command.add_argument(
        "--data", type=Path, metavar="LIST", help="a CSV file of other layouts, to evaluate all of them"
    )
    command.add_argument(
        "--to", type=Path, metavar="FOLDER", help="where to write (default: CHECKPOINT without .pt, with _evaluation)"
    )
    command.set_defaults(command=evaluate)

    job_commands.add_commands(commands, [scale, loading])
    handoff_commands.add_commands(commands, loading)
    command = commands.add_parser("watch", help="show what runs are doing", description=watch.__doc__)
    command.add_argument(
        "run", type=Path, nargs="?", metavar="RUN", help="a run folder, or one of several (default: the site's)"
    )
    command.add_argument("--every", type=seconds, default=2.0, metavar="SECONDS", help="between two looks (default: 2)")
    command.add_argument("--once", action="store_true", help="show it once, as where there is no terminal")
    command.add_argument("--site", type=Path, metavar="FILE", help="the site file (default: imginav.toml, if there)")
    command.set_defaults(command=watch)

    command = commands.add_parser(
        "winner", parents=[scale, loading], help="show or decide the winner of a phase", description=winner.__doc__
    )
    command.add_argument("phase", type=Path, help="the phase's manifest, such as phases/1_1.toml")
    decision = command.add_mutually_exclusive_group()
    decision.add_argument("--of-finished", action="store_true", help="let the rule decide among the finished ones")
    decision.add_argument("--set-to", metavar="NAME", help="make this experiment the winner, whatever the rule says")
    command.add_argument("--because", default="", metavar="WHY", help="the reason for --set-to, kept in winner.toml")
    command.set_defaults(command=winner)

    command = commands.add_parser(
        "check", parents=[scale, loading], help="find what is wrong, before training", description=check.__doc__
    )
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="phases, or folders of them")
    command.add_argument("--require-winners", action="store_true", help="a winner that is not recorded is a fault")
    command.set_defaults(command=check)

    command = commands.add_parser(
        "plan", parents=[scale, loading], help="show what a phase will need", description=plan.__doc__
    )
    command.add_argument("phase", type=Path, help="the phase's manifest, such as phases/1_5.toml")
    add_only(command)
    command.add_argument("--measure", action="store_true", help="take a few training steps, to estimate the time")
    command.set_defaults(command=plan)

    command = commands.add_parser(
        "explain", help="show where each value of a run came from", description=explain.__doc__
    )
    command.add_argument("run", type=Path, help="a run folder, its manifest.toml, or a checkpoint")
    command.set_defaults(command=explain)

    command = commands.add_parser(
        "schema", help="print a JSON Schema of phases, for editors", description=schema.__doc__
    )
    command.set_defaults(command=schema)

    command = commands.add_parser("plugins", help="list the installed components", description=plugins.__doc__)
    command.set_defaults(command=plugins)
    return parser


def _add_training(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], shared: list[argparse.ArgumentParser]
) -> None:
    """Add the commands that train."""
    command = commands.add_parser("run", parents=shared, help="train a phase", description=run.__doc__)
    command.add_argument("phase", type=Path, help="the phase's manifest, such as phases/1_5.toml")
    one = command.add_mutually_exclusive_group()
    add_only(one)
    one.add_argument("--index", metavar="N", help="the Nth experiment, from 1 on; auto: this element of a job array")
    command.add_argument(
        "--resume",
        default="auto",
        metavar="auto|never|PATH",
        help="auto (default): what is not finished goes on; never: train anew; or a checkpoint to go on from",
    )
    command.add_argument("--nodes", type=positive, default=1, metavar="N", help="machines; give this command on each")
    command.add_argument(
        "--rendezvous", default="", metavar="HOST:PORT", help="where several machines meet: a free port of one of them"
    )
    command.set_defaults(command=run)

    command = commands.add_parser("study", parents=shared, help="run all phases in order", description=study.__doc__)
    command.add_argument("folder", type=Path, help="the folder of the phases, such as phases/")
    command.add_argument(
        "--resume",
        default="auto",
        choices=("auto", "never"),
        help="auto (default): what is not finished goes on; never: train everything anew",
    )
    command.set_defaults(command=study)
