"""How a figure is distributed over the validation layouts: a histogram for the page of a run."""

from __future__ import annotations

import math
from pathlib import Path

from attrs import frozen
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from imginav.errors import UserError
from imginav_evaluation.csv_files import read_rows
from imginav_evaluation.evaluate import LAYOUTS
from imginav_reports.charts import EXPERIMENTS, svg

FIGURES = (("val_psnr_db", "PSNR (dB)"), ("val_segmentation_accuracy", "share of pixels in their class"))
"""What is shown of each layout: the first of these that at least two layouts have."""

BINS = 24

UNKNOWN = "of no known type"


@frozen(kw_only=True)
class Histogram:
    """A drawing of how many layouts have which value, by their type."""

    title: str
    svg: Markup
    types: list[str]  # in the order of the series' colours
    layouts: int
    not_finite: int  # layouts without a finite value, such as those that are rebuilt without any error


def layout_histogram(folder: Path) -> Histogram | None:
    """Return the histogram of what `evaluation_layouts.csv` in a folder says; None where there is too little."""
    try:
        rows = read_rows(folder / LAYOUTS)
    except UserError:  # a page without it is whole
        return None
    for name, title in FIGURES:
        values = [(row.get("type") or UNKNOWN, _number(row.get(name, ""))) for row in rows]
        known = [(kind, value) for kind, value in values if math.isfinite(value)]
        if len(known) > 1:
            return _drawn(title, known, len(rows) - len(known))
    return None


def _drawn(title: str, known: list[tuple[str, float]], not_finite: int) -> Histogram:
    types = sorted({kind for kind, _ in known})
    parts = [[value for own, value in known if own == kind] for kind in types]

    def draw(axes: Axes) -> None:
        colours = [EXPERIMENTS[place % len(EXPERIMENTS)] for place in range(len(types))]
        axes.hist(parts, bins=min(BINS, len(known)), stacked=True, color=colours)
        axes.set_axisbelow(True)  # the grid does not cross the bars
        axes.set(xlabel=title, ylabel="layouts")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))

    return Histogram(
        title=title,
        svg=svg(draw, "histogram", f"{title} of the validation layouts"),
        types=types,
        layouts=len(known),
        not_finite=not_finite,
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
