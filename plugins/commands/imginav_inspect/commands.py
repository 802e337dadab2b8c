"""The commands that look: check, plan, explain, watch, plugins, schema, trust, help, completion; no logic.

What a command needs is imported inside of its function, because torch takes seconds to import and `--help` must not
wait for it.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from imginav.plugin.commands import Commands
from imginav.plugin.hookspecs import hookimpl
from imginav.study.command_options import add_name, add_only, add_phase, add_phases, seconds, study_options
from imginav.study.phase_files import phase_file, phase_or_folder, study_folder, study_path
from imginav_inspect.json_output import add_json, print_json

PHASE_TYPES = (phase_file, phase_or_folder, study_path)
"""Types of arguments that are paths, or names that stand for one."""


def check(options: argparse.Namespace) -> int:
    """Find everything that can be wrong with phases without training them; nothing is written."""
    from imginav.plugin.registry import installed
    from imginav_inspect.phase_check import check_phases, report_faults

    checked = check_phases(options.paths or [study_folder()], installed(), study_options(options))
    if options.json:
        print_json({"phases": [phase.as_json() for phase in checked]})
    else:
        print("\n".join(line for phase in checked for line in phase.lines))
    report_faults(checked)
    return 0


def plan(options: argparse.Namespace) -> int:
    """Show what the experiments of a phase will need, and every value with its origin; nothing is trained."""
    from imginav.plugin.registry import installed
    from imginav.study.phases import chosen, open_phase
    from imginav_inspect.plan import show_plan

    registry = installed()
    phase = open_phase(study_options(options).load(options.phase, registry), registry.hooks)
    show_plan(phase, chosen(phase.phase, options.only), measure=options.measure, as_json=options.json)
    return 0


def explain(options: argparse.Namespace) -> int:
    """Show each value of a run and where it came from, the whole way down."""
    from imginav.plugin.registry import installed
    from imginav_inspect.explanation import explain as explanation_of

    print("\n".join(explanation_of(options.run, installed()).lines))
    return 0


def diff(options: argparse.Namespace) -> int:
    """Show what two runs differ in: values, layouts, metrics."""
    from imginav.manifest.site import SITE_FILE, experiments_folder
    from imginav_inspect.run_difference import difference, show

    found = difference(options.first, options.second, experiments_folder(options.site or SITE_FILE))
    if options.json:
        print_json(found.as_json())
    else:
        show(found)
    return 0


def watch(options: argparse.Namespace) -> int:
    """Show what runs are doing, from their files: epoch, losses, best, speed, time left."""
    from imginav.manifest.site import SITE_FILE, experiments_folder
    from imginav_inspect.watch import runs_in
    from imginav_inspect.watch import watch as watch_runs

    with suppress(KeyboardInterrupt):  # the way to leave it
        place = options.run or experiments_folder(options.site or SITE_FILE)
        if options.json:
            print_json({"runs": [run.as_json() for run in runs_in(place)]})
        else:
            watch_runs(place, every=options.every, once=options.once)
    return 0


def plugins(options: argparse.Namespace) -> int:
    """List the installed components."""
    from imginav.plugin.registry import installed
    from imginav_inspect.component_list import components_as_json, print_components

    if options.json:
        print_json({"components": components_as_json(installed())})
    else:
        print_components(installed())
    return 0


def schema(_: argparse.Namespace) -> int:
    """Print a JSON Schema of a phase's file, by which an editor completes and checks it."""
    from imginav.plugin.registry import installed
    from imginav_inspect.schema import schema_text

    print(schema_text(installed()), end="")
    return 0


def trust(options: argparse.Namespace) -> int:
    """Show the plugin files that a site file names, and trust them as they are; nothing of them is run."""
    from imginav_inspect.trust import forget_site, listing, trust_site

    if options.list:
        print("\n".join(listing()))
    elif options.remove:
        forget_site(options.site_file)
    else:
        trust_site(options.site_file, yes=options.yes)
    return 0


def show_help(options: argparse.Namespace) -> int:
    """Show the commands, or the options of one."""
    from imginav.cli import main

    return main([*([options.name] if options.name else []), "--help"])


def completion(options: argparse.Namespace) -> int:
    """Print a script by which a shell completes commands, options and files."""
    import shtab

    from imginav.cli import parser

    print(shtab.complete(completable(parser()), shell=options.shell))
    return 0


def completable(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let the arguments of a parser that are paths, and those of its commands, be completed by the names of files."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                completable(command)
        elif action.type in (Path, *PHASE_TYPES):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # as shtab asks for it
    return parser


def _add_help(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="COMMAND", help="the command (default: a list of all)")


def _add_trust(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "site_file", type=Path, nargs="?", default=Path("imginav.toml"), metavar="FILE", help="default: imginav.toml"
    )
    how = command.add_mutually_exclusive_group()
    how.add_argument("--yes", action="store_true", help="trust them without a question")
    how.add_argument("--list", action="store_true", help="show all that is trusted")
    how.add_argument("--remove", action="store_true", help="trust it no longer")


def _add_completion(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that is to read the script")


def _add_check(command: argparse.ArgumentParser) -> None:
    add_phases(command)
    command.add_argument("--require-winners", action="store_true", help="a winner that is not recorded is a fault")
    add_json(command)


def _add_plan(command: argparse.ArgumentParser) -> None:
    add_phase(command)
    add_only(command)
    add_name(command)
    command.add_argument("--measure", action="store_true", help="take a few training steps, to estimate the time")
    add_json(command)


def _add_explain(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, help="a run folder, its manifest.toml, or a checkpoint")


def _add_diff(command: argparse.ArgumentParser) -> None:
    command.add_argument("first", metavar="RUN", help="a run: its folder, or its name in the experiments' folder")
    command.add_argument("second", metavar="RUN", help="the run to compare it with")
    command.add_argument("--site", type=Path, metavar="FILE", help="the site file (default: imginav.toml, if there)")
    add_json(command)


def _add_watch(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "run", type=Path, nargs="?", metavar="RUN", help="a run folder, or one of several (default: the site's)"
    )
    command.add_argument("--every", type=seconds, default=2.0, metavar="SECONDS", help="between two looks (default: 2)")
    command.add_argument("--once", action="store_true", help="show it once, as where there is no terminal")
    command.add_argument("--site", type=Path, metavar="FILE", help="the site file (default: imginav.toml, if there)")
    add_json(command)


@hookimpl
def imginav_commands(commands: Commands) -> None:
    """Add the commands that look, and train nothing."""
    commands.add("check", check, _add_check, options=("scale", "loading"))
    commands.add("plan", plan, _add_plan, options=("scale", "loading"))
    commands.add("explain", explain, _add_explain, options=("plugins",))
    commands.add("diff", diff, _add_diff)
    commands.add("watch", watch, _add_watch)
    commands.add("plugins", plugins, add_json, options=("plugins",))
    commands.add("schema", schema, options=("plugins",))
    commands.add("trust", trust, _add_trust)
    commands.add("help", show_help, _add_help)
    commands.add("completion", completion, _add_completion)


@hookimpl
def command_started(options: argparse.Namespace) -> None:
    """Use the plugin files that the site file names, where the user trusts it."""
    from imginav_inspect.site_plugins import use_site_plugins

    use_site_plugins(options)
