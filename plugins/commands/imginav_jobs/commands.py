"""The commands that have to do with jobs: submit, status, cancel, logs; no logic.

What a command needs is imported inside of its function.
"""

from __future__ import annotations

import argparse
from contextlib import suppress

from imginav.plugin.commands import Commands, OptionGroup
from imginav.plugin.hookspecs import hookimpl
from imginav.study.command_options import add_only, add_phases, study_options
from imginav.study.phase_files import phase_file, phase_or_folder, study_folder
from imginav_inspect.json_output import add_json


def submit(options: argparse.Namespace) -> int:
    """Submit phases to the cluster of the site file: a job each, and a job array for a sweep."""
    from imginav.plugin.registry import installed
    from imginav_jobs.submission import Request
    from imginav_jobs.submission import submit as submit_phases

    request = Request(
        paths=tuple(options.paths or [study_folder()]),
        only=tuple(options.only),
        profile=options.profile,
        require_winners=options.winners_required,
        dry_run=options.dry_run,
    )
    submit_phases(request, installed(), study_options(options))
    return 0


def status(options: argparse.Namespace) -> int:
    """Show where a study stands: each experiment with its job, its state, and where its log is."""
    from imginav.plugin.registry import installed
    from imginav_jobs.job_status import show_status

    show_status(options.paths or [study_folder()], installed(), study_options(options), as_json=options.json)
    return 0


def cancel(options: argparse.Namespace) -> int:
    """End jobs; a run that they have begun goes on when it is submitted again."""
    from imginav.plugin.registry import installed
    from imginav_jobs.job_status import cancel_jobs

    cancel_jobs(options.paths, options.only, installed(), study_options(options))
    return 0


def logs(options: argparse.Namespace) -> int:
    """Print what the last job of an experiment has written."""
    from imginav.plugin.registry import installed
    from imginav_jobs.job_status import show_log

    with suppress(KeyboardInterrupt):  # the way to leave it
        show_log(options.path, options.only, installed(), study_options(options), follow=options.follow)
    return 0


def _add_submit(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "paths",
        type=phase_or_folder,
        nargs="*",
        metavar="PHASE|FOLDER",
        help="phases, or folders of them: a chain (default: phases/, or else imginav's own)",
    )
    add_only(command)
    command.add_argument("--profile", metavar="NAME", help="of [cluster.profiles], for all of them")
    command.add_argument("--dry-run", action="store_true", help="print the scripts, and submit nothing")
    command.add_argument(
        "--require-winners",
        dest="winners_required",
        action="store_true",
        help="jobs refuse to run without the winners that their phase takes, as those of a chain do",
    )


def _add_status(command: argparse.ArgumentParser) -> None:
    add_phases(command)
    add_json(command)


def _add_cancel(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "paths", type=phase_or_folder, nargs="+", metavar="PHASE|FOLDER", help="phases, or folders of them"
    )
    add_only(command)


def _add_logs(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", type=phase_file, metavar="PHASE", help="its number, such as 1.5, its name or its file")
    add_only(command)
    command.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")


@hookimpl
def imginav_commands(commands: Commands) -> None:
    """Add the commands for jobs."""
    loads: tuple[OptionGroup, ...] = ("scale", "loading")
    commands.add("submit", submit, _add_submit, options=loads)
    commands.add("status", status, _add_status, options=loads)
    commands.add("cancel", cancel, _add_cancel, options=loads)
    commands.add("logs", logs, _add_logs, options=loads)
