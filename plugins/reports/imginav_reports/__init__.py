"""The pages of runs and phases, and the table that compares the experiments of a phase on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imginav.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from imginav.plugin.run_view import RunFiles
    from imginav.runs.experiment import FinishedRun
    from imginav.study.phases import ConcludedPhase


@hookimpl(trylast=True)
def run_finished(run: FinishedRun) -> None:
    """Write the environment and the page of a run, and copy the page into the phase's folder."""
    from imginav.runs.evaluation_result import load_evaluation  # these need torch and matplotlib
    from imginav.runs.records import load_record
    from imginav_reports import environment, run_page

    trained_in = environment.current_environment(run.trainer.device, load_record(run.folder.record, locked=True))
    trained_in.save(run.folder.root / environment.FILE)

    run_page.write(load_evaluation(run.folder.evaluation), run.folder.root, run.resolved, run.trainer.history)
    run.folder.share(run.folder.root / run_page.PAGE)


@hookimpl
def run_concluded(folder: RunFiles) -> None:
    """Print the summary of a finished run."""
    from imginav.runs.evaluation_result import load_evaluation
    from imginav_reports.run_summary import summary

    print(summary(load_evaluation(folder.evaluation), folder.root), flush=True)


@hookimpl
def phase_concluded(concluded: ConcludedPhase) -> None:
    """Print the comparison of a phase's experiments, and write its page if anything has changed since the last time."""
    from imginav.runs.run_folder import REPORT
    from imginav_reports import phase_page  # needs torch and matplotlib
    from imginav_reports.comparison_table import print_comparison
    from imginav_reports.phase_runs import page_is_older

    page = concluded.phase.shared / REPORT
    if concluded.changed or not page.is_file() or page_is_older(page, concluded.phase):
        phase_page.write(concluded.phase, concluded.experiments, concluded.winner)
    if len(concluded.experiments) > 1:  # the summary of a single run says it all
        print_comparison(concluded.phase, concluded.experiments, concluded.winner)
        print(f"look at {page}")
