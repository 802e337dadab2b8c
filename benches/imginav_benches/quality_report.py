"""What a comparison leaves: all points as CSV, their curves, tables for people, and layouts side by side."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import matplotlib as mpl
import numpy as np
from attrs import frozen
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from imginav.files import write_text
from imginav.runs.evaluation_result import EvaluationResult
from imginav_benches.arm_files import Targets
from imginav_benches.quality import Point
from imginav_benches.quality_runs import Trained
from imginav_benches.reaching import Spread, Versus, spread, value_at, versus
from imginav_evaluation import pictures
from imginav_evaluation.pictures import Pixels
from imginav_reports import charts

CSV, PLOT, TEXT, SIDE_BY_SIDE = "time_to_quality.csv", "time_to_quality.png", "time_to_quality.md", "side_by_side.png"

PANELS = {
    "val_mse": "validation MSE in [-1, 1]",
    "palette_accuracy": "palette accuracy",
    "mean_iou": "mean IoU",
    "wall_recall": "wall recall",
}
"""What is drawn of a point."""

FINAL = {
    "val_mse": ("MSE", ".3g"),
    "val_psnr_db": ("PSNR (dB)", ".2f"),
    "val_palette_accuracy": ("palette accuracy", ".4f"),
    "val_mean_iou": ("mean IoU", ".4f"),
    "val_wall_recall": ("wall recall", ".4f"),
}
"""The metrics of the weights that a run leaves, their headings, and how they are written."""

MOMENTS = 200
"""Of a curve over several seeds, at which their median is taken."""

NOTHING = "–"


@frozen(kw_only=True)
class Table:
    """Rows of text under headings."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return it as Markdown; figures stand on the right."""
        ruler = ["---", *["---:"] * (len(self.headings) - 1)]
        lines = [" | ".join(cells) for cells in (self.headings, ruler, *self.rows)]
        return "\n".join([f"**{self.title}**", "", *(f"| {line} |" for line in lines)])


@frozen
class Comparison:
    """Finished runs; those of an arm have the seeds in the same order as all others."""

    runs: tuple[Trained, ...]

    @property
    def arms(self) -> dict[str, list[Trained]]:
        """The runs of each arm, in the order of the arms."""
        return {name: [run for run in self.runs if run.arm == name] for name in dict.fromkeys(r.arm for r in self.runs)}

    @property
    def first(self) -> str:
        """The arm that the others are held against."""
        return self.runs[0].arm

    def beside_the_first(self, arm: str) -> list[Versus]:
        """Return how an arm does beside the first, for each seed."""
        arms = self.arms
        return [
            versus(run.points, theirs.points, theirs.evaluation.metrics["val_mse"], run.seed)
            for run, theirs in zip(arms[arm], arms[self.first], strict=True)
        ]


def write_report(
    folder: Path, comparison: Comparison, targets: Targets | None, notes: Sequence[str], elsewhere: Sequence[str] = ()
) -> tuple[list[Table], list[str]]:
    """Write CSV, curves and text into a folder; return the tables, and what came of the targets in sentences."""
    tables = [final_table(comparison), beside_table(comparison)]
    if elsewhere:
        tables.append(elsewhere_table(comparison, elsewhere))
    said = verdicts(comparison, targets) if targets else []
    write_text(folder / CSV, _csv(comparison))
    _draw(folder / PLOT, comparison)
    parts = ["# Time to quality", *notes, *(table.markdown() for table in tables), *said]
    parts.append(f"![curves]({PLOT})")
    write_text(folder / TEXT, "\n\n".join(parts) + "\n")
    return tables, said


def final_table(comparison: Comparison) -> Table:
    """Return what the weights that the runs leave are worth: the median over the seeds, and the range."""
    rows = []
    for name, runs in comparison.arms.items():
        evaluation = runs[0].evaluation
        rows.append(
            (
                name,
                "×".join(map(str, evaluation.latent)),
                f"{evaluation.encoder_parameters + evaluation.decoder_parameters:,}",
                _shown(spread(run.images_per_second for run in runs), ".3g"),
                _shown(spread(run.points[-1].seconds for run in runs), ".3g"),
                *_final_cells([run.evaluation for run in runs]),
            )
        )
    headings = ("arm", "latent", "parameters", "images/s", "trained s", *(heading for heading, _ in FINAL.values()))
    return Table(title="The weights that the runs leave", headings=headings, rows=tuple(rows))


def elsewhere_table(comparison: Comparison, settings: Sequence[str]) -> Table:
    """Return what the same weights are worth on other data."""
    rows = [
        (name, *_final_cells([run.elsewhere for run in runs if run.elsewhere]))
        for name, runs in comparison.arms.items()
    ]
    return Table(
        title=f"The same weights on data with {', '.join(settings)}",
        headings=("arm", *(heading for heading, _ in FINAL.values())),
        rows=tuple(rows),
    )


def beside_table(comparison: Comparison) -> Table:
    """Return how long each arm takes to the final MSE of the first, and what it has in the same time."""
    first, rows = comparison.first, []
    for name in list(comparison.arms)[1:]:
        pairs = comparison.beside_the_first(name)
        share = spread(pair.time_ratio for pair in pairs)
        rows.append(
            (
                name,
                _shown(spread(pair.reached_seconds for pair in pairs), ".3g", none=_not_reached(pairs)),
                _shown(share, ".3g", none=_not_reached(pairs)),
                _shown(spread(pair.mse_ratio for pair in pairs), ".3g"),
                _shown(spread(pair.at_seconds for pair in pairs), ".3g"),
            )
        )
    headings = ("arm", f"s to {first}'s final MSE", f"of {first}'s training", "MSE × lower at equal time", "which is s")
    return Table(title=f"Beside {first}, seed by seed", headings=headings, rows=tuple(rows))


def verdicts(comparison: Comparison, targets: Targets) -> list[str]:
    """Return a sentence for each target and arm; the median over the seeds decides."""
    first, said = comparison.first, []
    for name in list(comparison.arms)[1:]:
        pairs = comparison.beside_the_first(name)
        share, lower = spread(p.time_ratio for p in pairs), spread(p.mse_ratio for p in pairs)
        said += [
            f"{name} reaches {first}'s final validation MSE in at most {targets.time_ratio:g} of its training time: "
            + _judged(share, lambda median: median <= targets.time_ratio, _not_reached(pairs)),
            f"{name}'s validation MSE at equal training time is at least {targets.mse_ratio:g} times lower than "
            f"{first}'s: "
            + _judged(
                lower,
                lambda median: median >= targets.mse_ratio,
                "not known, since one has no point yet when the other ends",
            ),
        ]
    return said


def draw_side_by_side(path: Path, rebuilt: Mapping[str, Sequence[tuple[Pixels, Pixels, float]]]) -> None:
    """Draw the same layouts as each arm rebuilds them, in a row each."""
    rows, titles = [], []
    for of_layout in zip(*rebuilt.values(), strict=True):
        rows.append([of_layout[0][0], *(pixels for _, pixels, _ in of_layout)])
        errors = (f"{name} {mse:.3g}" for name, (_, _, mse) in zip(rebuilt, of_layout, strict=True))
        titles.append(f"MSE: {', '.join(errors)}")
    pictures.write_png(path, pictures.grid(rows, ["layout", *rebuilt], titles=titles))


def _judged(found: Spread | None, fits: Callable[[float], bool], otherwise: str) -> str:
    if found is None:
        return otherwise
    return f"{'reached' if fits(found.median) else 'not reached'}: {_shown(found, '.3g')}"


def _not_reached(pairs: Sequence[Versus]) -> str:
    """Return in how many seeds an arm was never as good as the first in the end."""
    missing = sum(pair.reached_seconds is None for pair in pairs)
    return "not reached" if missing == len(pairs) else f"not reached with {missing} of {len(pairs)} seeds"


def _final_cells(evaluations: Sequence[EvaluationResult]) -> list[str]:
    return [_shown(spread(o.metrics.get(name) for o in evaluations), style) for name, (_, style) in FINAL.items()]


def _shown(found: Spread | None, style: str, none: str = NOTHING) -> str:
    if found is None:
        return none
    median = f"{found.median:{style}}"
    return median if found.count == 1 else f"{median} ({found.least:{style}} to {found.most:{style}})"


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    columns = ["arm", "seed", *(attribute.name for attribute in attrs.fields(Point))]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for run in comparison.runs:
        writer.writerows({"arm": run.arm, "seed": run.seed, **attrs.asdict(point)} for point in run.points)
    return text.getvalue()


def _draw(path: Path, comparison: Comparison) -> None:
    """Draw each figure over the seconds of training: the median over the seeds as a line, their range as a band."""
    with mpl.rc_context(charts.LITERAL):
        figure = Figure(figsize=(12, 8.4), layout="constrained")
        for axes, (name, title) in zip(figure.subplots(2, 2).flatten(), PANELS.items(), strict=True):
            _draw_panel(axes, name, comparison)
            axes.set_title(title)
            axes.set_xlabel("seconds of training")
            axes.grid(alpha=0.25)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
        charts.write_figure(path, figure)


def _draw_panel(axes: Axes, name: str, comparison: Comparison) -> None:
    colours = itertools.cycle(mpl.colormaps["tab10"].colors)  # type: ignore[attr-defined]  # a list of colours has it
    for (arm, runs), colour in zip(comparison.arms.items(), colours, strict=False):
        for run in runs:
            seconds = [point.seconds for point in run.points]
            axes.plot(
                seconds, [getattr(point, name) for point in run.points], ".-", color=colour, alpha=0.35, linewidth=0.7
            )
        moments, values = over_seeds(runs, name)
        axes.plot(moments, np.median(values, axis=0), color=colour, linewidth=1.6, label=arm)
        if len(runs) > 1:
            axes.fill_between(moments, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    every = [getattr(point, name) for run in comparison.runs for point in run.points]
    charts.scale(axes, every, logarithmic=name == "val_mse")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def over_seeds(runs: Sequence[Trained], figure: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return moments at which all runs of an arm have values, and these values (runs, moments)."""
    first = max(run.points[0].seconds for run in runs)
    last = min(run.points[-1].seconds for run in runs)
    moments = np.geomspace(first, last, MOMENTS).clip(first, last) if last > first else np.array([last])
    values = [[value_at(run.points, moment, figure) for moment in moments.tolist()] for run in runs]
    return moments, np.array(values, dtype=np.float64)
