"""Curves of a run: as a picture for its folder, and as drawings within its page that follow the page's colours."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from attrs import field, frozen
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from imginav import pictures

History = Sequence[Mapping[str, float]]
"""A row of metrics for each epoch, as the metrics CSV has it."""

MOST_POINTS = 400
"""Of a curve; no screen shows more."""

MOST_MARKED_POINTS = 40
"""Up to which each epoch has a dot."""

COLOURS = {"train": "#d1670f", "validation": "#2a6fb0", "": "#3a8a57"}

VARIABLES = {
    "#010101": "currentColor",
    "#020202": "var(--line)",
    "#030303": "var(--accent)",
    "#040404": "var(--train)",
    "#050505": "var(--validation)",
    "#060606": "var(--single)",
}
"""Colours that no drawing has otherwise, and what the page puts in their place."""

TEXT, GRID, MARK, TRAIN, VALIDATION, SINGLE = VARIABLES


@frozen
class Panel:
    """One drawing: values over epochs."""

    title: str
    lines: dict[str, str]  # the column of the metrics, by what it is called; empty where there is one only
    logarithmic: bool = field(default=False)  # where all values are above zero


def panels(history: History) -> list[Panel]:
    """Return what is drawn of a history: each loss, the PSNR, the learning rate."""
    columns = dict.fromkeys(name for row in history for name in row)
    terms = [name.removeprefix("train_") for name in columns if name.startswith("train_loss")]
    found = [
        Panel(
            "loss" if term == "loss" else f"loss term: {term.removeprefix('loss_')}",
            {"train": f"train_{term}", "validation": f"val_{term}"},
            logarithmic=True,
        )
        for term in terms
        if not term.endswith("_weighted")
    ]
    if "val_psnr_db" in columns:
        found.append(Panel("PSNR of the mean MSE (dB)", {"": "val_psnr_db"}))
    if "learning_rate" in columns:
        found.append(Panel("learning rate", {"": "learning_rate"}))
    return found


def write_curves(path: Path, history: History, weights_epoch: int) -> None:
    """Draw all panels into one PNG file."""
    shown = panels(history)
    columns = 2
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(11, 3.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, panel in zip(grid, shown, strict=False):
        _draw(axes, panel, history, weights_epoch, COLOURS)
        axes.set_title(panel.title)
        axes.grid(alpha=0.25)
    for axes in grid[len(shown) :]:
        axes.remove()
    pictures.write_figure(path, figure)


def drawings(history: History, weights_epoch: int) -> list[tuple[str, Markup]]:
    """Return the title and the SVG of each panel; text is text, and colours are those of the page around it."""
    return [(panel.title, _svg(panel, number, history, weights_epoch)) for number, panel in enumerate(panels(history))]


def _svg(panel: Panel, number: int, history: History, weights_epoch: int) -> Markup:
    colours = {"train": TRAIN, "validation": VALIDATION, "": SINGLE}
    # Each with a salt of its own, as names within them must differ within a page.
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"panel{number}",
        "font.family": "sans-serif",
        "font.size": 9,
    }
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), TEXT)
    with mpl.rc_context(style):
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        axes.spines[["top", "right"]].set_visible(False)
        _draw(axes, panel, history, weights_epoch, colours)
        axes.grid(color=GRID, linewidth=0.6)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    # The names of fonts that matplotlib looks for say nothing to a browser; the page's is taken.
    text = text.replace("DejaVu Sans", "system-ui").replace("<svg ", '<svg role="img" ', 1)
    return Markup(text)  # noqa: S704  # made above; matplotlib escapes the names that stand in it


def _draw(axes: Axes, panel: Panel, history: History, weights_epoch: int, colours: Mapping[str, str]) -> None:
    stride = math.ceil(len(history) / MOST_POINTS)
    # The last epochs of strides, so that the very last one is among them.
    rows = list(history[::-1][::stride])[::-1]
    epochs = [row.get("epoch", math.nan) for row in rows]
    marker = "o" if len(rows) <= MOST_MARKED_POINTS else None
    for label, column in panel.lines.items():
        values = [row.get(column, math.nan) for row in rows]
        axes.plot(epochs, values, marker=marker, markersize=2.5, linewidth=1.4, label=label, color=colours[label])
    values = [v for row in rows for c in panel.lines.values() if math.isfinite(v := row.get(c, math.nan))]
    if panel.logarithmic and values and min(values) > 0:
        scale_log(axes)
    mark = MARK if TRAIN in colours.values() else "0.6"
    axes.axvline(weights_epoch, color=mark, linestyle=":", linewidth=1.4, label=f"epoch {weights_epoch}: the weights")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    handles, labels = axes.get_legend_handles_labels()
    named = [(handle, label) for handle, label in zip(handles, labels, strict=True) if label]
    axes.legend(*zip(*named, strict=True), fontsize="small", frameon=False)


def scale_log(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with figures in between that people read."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
