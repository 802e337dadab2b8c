"""The commands that have to do with jobs: submit, status, cancel, logs; no logic.

As in `imginav.cli`, what a command needs is imported inside of its function.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from imginav.command_options import add_only, study_options

PHASES = Path("phases")
"""Where the phases of a study lie unless they are named."""


def submit(options: argparse.Namespace) -> int:
    """Submit phases to the cluster of the site file: a job each, and a job array for a sweep."""
    from imginav import registry
    from imginav.submitting import Request
    from imginav.submitting import submit as submit_phases

    request = Request(
        paths=tuple(options.paths),
        only=tuple(options.only),
        profile=options.profile,
        require_winners=options.winners_required,
        dry_run=options.dry_run,
    )
    submit_phases(request, registry.installed(), study_options(options))
    return 0


def status(options: argparse.Namespace) -> int:
    """Show where a study stands: each experiment with its job, its state, and where its log is."""
    from imginav import registry
    from imginav.job_status import show_status

    show_status(options.paths or [PHASES], registry.installed(), study_options(options))
    return 0


def cancel(options: argparse.Namespace) -> int:
    """End jobs; a run that they have begun goes on when it is submitted again."""
    from imginav import registry
    from imginav.job_status import cancel_jobs

    cancel_jobs(options.paths, options.only, registry.installed(), study_options(options))
    return 0


def logs(options: argparse.Namespace) -> int:
    """Print what the last job of an experiment has written."""
    from imginav import registry
    from imginav.job_status import show_log

    with suppress(KeyboardInterrupt):  # the way to leave it
        show_log(options.path, options.only, registry.installed(), study_options(options), follow=options.follow)
    return 0


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], shared: list[argparse.ArgumentParser]
) -> None:
    """Add the commands, with the options of all that load phases."""
    command = commands.add_parser("submit", parents=shared, help="submit phases as jobs", description=submit.__doc__)
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="phases, or folders of them: a chain")
    add_only(command)
    command.add_argument("--profile", metavar="NAME", help="of [cluster.profiles], for all of them")
    command.add_argument("--dry-run", action="store_true", help="print the scripts, and submit nothing")
    command.add_argument(
        "--require-winners",
        dest="winners_required",
        action="store_true",
        help="jobs refuse to run without the winners that their phase takes, as those of a chain do",
    )
    command.set_defaults(command=submit)

    command = commands.add_parser("status", parents=shared, help="show jobs and runs", description=status.__doc__)
    command.add_argument("paths", type=Path, nargs="*", metavar="PATH", help="phases, or folders (default: phases)")
    command.set_defaults(command=status)

    command = commands.add_parser("cancel", parents=shared, help="end jobs", description=cancel.__doc__)
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="phases, or folders of them")
    add_only(command)
    command.set_defaults(command=cancel)

    command = commands.add_parser("logs", parents=shared, help="print a job's log", description=logs.__doc__)
    command.add_argument("path", type=Path, metavar="PHASE", help="the phase's manifest, such as phases/1_5.toml")
    add_only(command)
    command.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    command.set_defaults(command=logs)
