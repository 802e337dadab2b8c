"""The evaluation of the weights that a run leaves: it answers the hook `run_finished` first, with evaluation.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imginav.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from imginav.runs.experiment import FinishedRun


@hookimpl(tryfirst=True)
def run_finished(run: FinishedRun) -> None:
    """Evaluate the weights of a run, and write evaluation.json, its pictures and a row for each layout."""
    from imginav_evaluation.evaluate import Weights, evaluate  # needs torch and matplotlib

    evaluation = evaluate(Weights.of(run.trainer), run.resolved, run.folder.root, timed=run.timed)
    evaluation.save(run.folder.evaluation)
