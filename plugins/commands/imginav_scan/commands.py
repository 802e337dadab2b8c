"""The command that begins with a folder of images: scan; no logic.

What it needs is imported inside of its function.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from imginav.plugin.commands import Commands
from imginav.plugin.hookspecs import hookimpl


def scan(options: argparse.Namespace) -> int:
    """Look at a folder of images, and write a list, a palette and a site file to train on them.

    It writes layouts.csv, palette.toml, contact_sheet.png and imginav.toml into the working folder.
    """
    from imginav_scan.scan import ScanRequest
    from imginav_scan.scan import scan as scan_folder

    request = ScanRequest(
        folder=options.images,
        to=options.to,
        exclude=tuple(options.exclude),
        force=options.force,
        dry_run=options.dry_run,
    )
    scan_folder(request)
    return 0


def _add_scan(command: argparse.ArgumentParser) -> None:
    command.add_argument("images", type=Path, metavar="FOLDER", help="the folder of images, in any nesting")
    command.add_argument(
        "--to", type=Path, default=Path(), metavar="FOLDER", help="where to write (default: the working folder)"
    )
    command.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="GLOB",
        help="leave out images by their names or paths, such as '*_depth.png'; may be repeated",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="overwrite existing files; in imginav.toml, only [data]",
    )
    command.add_argument("--dry-run", action="store_true", help="show what was found, and write nothing")


@hookimpl
def imginav_commands(commands: Commands) -> None:
    """Add the command that begins with a folder of images."""
    commands.add("scan", scan, _add_scan)
