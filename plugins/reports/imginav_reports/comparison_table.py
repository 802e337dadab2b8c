"""The experiments of a phase side by side, as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from imginav.formatting import format_duration
from imginav.manifest.resolved import ResolvedPhase
from imginav.manifest.winners import Winner
from imginav.study.selection import RunResult
from imginav.terminal import print_table
from imginav_reports.varied_values import short_names, shown_value


def print_comparison(phase: ResolvedPhase, evidence: Sequence[RunResult], winner: Winner | None) -> None:
    """Print one row per run: what the experiments differ in, and their results; the winner is in bold."""
    metric, _ = deciding_metric(phase, winner)
    metrics = list(dict.fromkeys([metric, "val_mse", "val_psnr_db"]))
    columns = ["experiment", *short_names(phase.varied), "latent", "dimensions", "parameters", "ms", *metrics]
    rows, marked = [], []
    for e in evidence:
        evaluation = e.evaluation
        won = bool(winner and e.resolved.name == winner.winner)
        cells = [
            phase.label(e.resolved) + (" ★" if won else ""),
            *(shown_value(e.resolved.changes, key) for key in phase.varied),
        ]
        if evaluation:
            cells += [
                "×".join(map(str, evaluation.latent)),
                f"{math.prod(evaluation.latent):,}",
                f"{evaluation.encoder_parameters + evaluation.decoder_parameters:,}",
                f"{evaluation.latency_ms:.3g}" if evaluation.latency_ms else "",
                *(f"{e.metric(name):#.4g}" for name in metrics),
                f"{evaluation.weights_epoch} of {evaluation.epochs}",
            ]
        else:
            cells += ["", "", "", "", *("" for _ in metrics), e.state]
        cells.append(format_duration(e.record.seconds) if e.record else "")
        rows.append(cells)
        marked.append(won)
    print_table(phase.heading, [*columns, "epoch", "time"], rows, marked)


def deciding_metric(phase: ResolvedPhase, winner: Winner | None) -> tuple[str, Literal["min", "max"]]:
    """Return the metric that decides, and whether less or more of it is better."""
    if winner:
        return winner.metric.name, winner.metric.mode
    return (phase.selector.metric, phase.selector.mode) if phase.selector else ("val_mse", "min")
