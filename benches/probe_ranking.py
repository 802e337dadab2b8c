"""Does the probe predict? The order of ten autoencoders by a short probe, against that by one ten times as long.

    python benches/probe_ranking.py            # hours on two cores; run it again to resume
    python benches/probe_ranking.py --report   # the tables of the results so far

Spearman's rank correlation with the long probe's FDD and pieces, of the short probe's metrics, of val MSE and of scores
that need no training, each with a 90 % interval over autoencoders that are drawn again (bootstrap).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from imginav.errors import UserError
from imginav.plugin.registry import installed
from imginav.processes.stop_request import StopRequest
from imginav.runs.evaluation_result import load_evaluation
from imginav.runs.experiment import run_folder
from imginav.seeds import Seeds
from imginav.study.phases import Options
from imginav.terminal import print_table
from imginav_benches.latent_scores import SCORES
from imginav_probe.result import load_result
from imginav_probe.run_probes import final_weights
from imginav_probe.subject import SubjectRequest, open_subject

MANIFEST = Path(__file__).with_suffix(".toml")

SHORT, LONG = "short", "long"

JUDGES = (f"{LONG} probe_fdd", f"{LONG} probe_pieces")
"""Metrics of the long probe that are to be predicted: its FDD is close to the noise floor, its pieces are not."""

SHOWN = {"val MSE", f"{SHORT} probe_fdd", *JUDGES, *SCORES}
"""Columns of the table of autoencoders."""

DRAWS = 2_000
"""Bootstrap samples of the autoencoders, for the interval."""

WINDOWS = 1_024
"""Windows of latents that scores are computed on."""

Values = NDArray[np.float64]


def main() -> None:
    """Train, probe, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="of the short probe (default: 600)")
    parser.add_argument("--times", type=int, default=10, help="how many times as long the long one is (default: 10)")
    parser.add_argument("--seeds", type=int, default=2, help="of the short probe (default: 2)")
    parser.add_argument("--results", type=Path, default=Path("outputs/probe_ranking"), help="where results are kept")
    parser.add_argument("--set", action="append", default=[], help="a value of the manifest; may be repeated")
    parser.add_argument("--report", action="store_true", help="print what is there, and compute nothing")
    options = parser.parse_args()
    settings = [part for setting in options.set for part in ("--set", setting)]
    if not options.report:
        _imginav("run", str(MANIFEST), "--trial", *settings)
    phase = Options(scale="trial", settings=tuple(options.set)).load(MANIFEST, installed())
    rows: dict[str, dict[str, float]] = {}
    for resolved in phase.experiments:
        folder = run_folder(resolved)
        evaluation = load_evaluation(folder.evaluation)
        own = options.results / resolved.name
        lengths = {SHORT: (options.steps, options.seeds), LONG: (options.times * options.steps, 1)}
        if not options.report:
            for length, (steps, seeds) in lengths.items():
                probe = ("--steps", str(steps), "--seeds", str(seeds), "--to", str(own / length))
                _imginav("probe", str(final_weights(folder, evaluation)), *probe, *settings)
            _write_scores(final_weights(folder, evaluation), own, tuple(options.set))
        rows[resolved.name] = {"val MSE": evaluation.metrics["val_mse"], **_found(own)}
    show(rows)


def _imginav(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "imginav", *arguments], check=True)


def _found(folder: Path) -> dict[str, float]:
    """Return what is known of an autoencoder so far, by name."""
    found: dict[str, float] = {}
    for length in (SHORT, LONG):
        with suppress(UserError):
            result = load_result(folder / length)
            if result.finished:
                found |= {f"{length} {name}": float(np.mean(m.values)) for name, m in result.metrics.items()}
    with suppress(FileNotFoundError):
        found |= json.loads((folder / "scores.json").read_text())
    return found


def _write_scores(path: Path, folder: Path, settings: tuple[str, ...]) -> None:
    target = folder / "scores.json"
    if target.is_file():
        return
    request = SubjectRequest(path=path, latents=folder / "latents", settings=settings)
    subject = open_subject(request, installed(), StopRequest())
    places = subject.windows.draw(WINDOWS, range(len(subject.training.indices)), Seeds(0).generator("scores"))
    latents = subject.latents.of(places, subject.windows.side, Seeds(0).generator("drawn")).double().numpy()
    target.write_text(json.dumps({name: score(latents) for name, score in SCORES.items()}))


def show(rows: dict[str, dict[str, float]]) -> None:
    """Print what the autoencoders are compared by, and how each value ranks them beside the long probe."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    shown = [name for name in names if name in SHOWN]
    cells = [[arm, *(f"{row[name]:.4g}" if name in row else "" for name in shown)] for arm, row in rows.items()]
    print_table("Autoencoders", ["autoencoder", *shown], cells, [False] * len(cells))
    for judge in JUDGES:
        judged = [row for row in rows.values() if judge in row]
        table = []
        for name in names:
            known = [row for row in judged if name in row]
            if name.startswith(LONG) or len(known) < 4:
                continue
            correlation, low, high = rank_correlation(
                np.array([row[name] for row in known]), np.array([row[judge] for row in known])
            )
            table.append([name, f"{correlation:.2f}", f"{low:.2f} to {high:.2f}", str(len(known))])
        headings = ["by", "ρ", "90 %", "autoencoders"]
        print_table(f"Spearman's correlation with {judge}", headings, table, [False] * len(table))


def rank_correlation(one: Values, other: Values) -> tuple[float, float, float]:
    """Return Spearman's correlation with the bounds of its 90 % interval; where more is better it is negative."""
    rng = np.random.default_rng(0)
    drawn = []
    while len(drawn) < DRAWS:
        chosen = rng.integers(len(one), size=len(one))
        if len(set(one[chosen])) > 1 and len(set(other[chosen])) > 1:
            drawn.append(float(spearmanr(one[chosen], other[chosen]).statistic))
    low, high = np.quantile(drawn, [0.05, 0.95])
    return float(spearmanr(one, other).statistic), float(low), float(high)


if __name__ == "__main__":
    main()
