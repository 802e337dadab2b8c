"""Looking at phases and runs: check, plan, explain, watch, plugins, schema."""

from __future__ import annotations

import argparse
from pathlib import Path

from imginav.plugin.hookspecs import hookimpl


@hookimpl
def study_started(folder: Path, options: argparse.Namespace) -> None:
    """Check all phases: what is wrong with the last one is better known before the first one trains for a night."""
    from imginav.plugin.registry import installed  # these need torch
    from imginav.study.command_options import study_options
    from imginav_inspect.phase_check import check_phases, report_faults

    report_faults(check_phases([folder], installed(), study_options(options)))
