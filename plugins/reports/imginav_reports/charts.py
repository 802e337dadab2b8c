"""Curves of a run: as a picture for its folder, and as drawings within its page that follow the page's colours."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from attrs import field, frozen
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from imginav.files import write_bytes

History = Sequence[Mapping[str, float]]
"""A row of metrics for each epoch, as the metrics CSV has it."""

MOST_POINTS = 400
"""Of a curve; no screen shows more."""

MOST_MARKED_POINTS = 40
"""Up to which each epoch has a dot."""

LEAST_RATIO = 3.0
"""Of the largest value to the least, from which on an axis is logarithmic; below, it would have hardly a figure."""

COLOURS = {"train": "#d1670f", "validation": "#2a6fb0", "": "#3a8a57", "mark": "0.4"}
"""In pictures, which are always light."""

VARIABLES = {
    "#010101": "currentColor",
    "#020202": "var(--line)",
    "#030303": "var(--accent)",
    "#040404": "var(--train)",
    "#050505": "var(--validation)",
    "#060606": "var(--single)",
    **{f"#0707{number:02d}": f"var(--series{number})" for number in range(8)},
}
"""Colours that no drawing has otherwise, and what the page puts in their place."""

TEXT, GRID, MARK, TRAIN, VALIDATION, SINGLE, *EXPERIMENTS = VARIABLES
PAGE_COLOURS = {"train": TRAIN, "validation": VALIDATION, "": SINGLE, "mark": MARK}

DRAWING_INCHES = (4.4, 2.6)
DRAWING_FONT = 12
"""At this size of a drawing, its text is no smaller than that of the page on the narrowest telephone."""

LITERAL: dict[Any, Any] = {"text.parse_math": False}
"""A dollar sign in a name begins no formula."""


@frozen
class Panel:
    """One drawing: values over epochs."""

    title: str
    lines: dict[str, str]  # the column of the metrics, by what it is called; empty where there is one only
    logarithmic: bool = field(default=False)  # where all values are above zero, and far enough from each other


@frozen(kw_only=True)
class Drawing:
    """A panel within a page."""

    title: str
    svg: Markup
    value: float | None  # of the weights that the page is about: of validation, where the panel has that
    not_finite: int  # values that are no number, and so are missing from the curves


def panels(history: History) -> list[Panel]:
    """Return what is drawn of a history: each loss, the PSNR, the learning rate; not what has no finite value."""
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
    return [panel for panel in found if any(math.isfinite(value) for value in _values(panel, history))]


def write_curves(path: Path, history: History, weights_epoch: int, best_epoch: int | None = None) -> None:
    """Draw all panels into one PNG file; none is written where there is nothing to draw."""
    shown = panels(history)
    if not shown:
        return
    columns = 2
    rows = math.ceil(len(shown) / columns)
    with mpl.rc_context(LITERAL):
        figure = Figure(figsize=(11, 3.1 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, panel in zip(grid, shown, strict=False):
            draw_panel(axes, panel, history, COLOURS)
            _mark_epochs(axes, weights_epoch, best_epoch, COLOURS["mark"])
            axes.set_title(panel.title)
            axes.grid(alpha=0.25)
            _add_legend(axes)
        for axes in grid[len(shown) :]:
            axes.remove()
        write_figure(path, figure)


def drawings(history: History, weights_epoch: int, best_epoch: int | None = None) -> list[Drawing]:
    """Return the panels as SVG; text is text, and colours are those of the page around it, which has the legend."""
    found = []
    for number, panel in enumerate(panels(history)):

        def draw(axes: Axes, panel: Panel = panel) -> None:
            draw_panel(axes, panel, history, PAGE_COLOURS)
            _mark_epochs(axes, weights_epoch, best_epoch, MARK)

        of_weights = [row.get(list(panel.lines.values())[-1]) for row in history if row.get("epoch") == weights_epoch]
        found.append(
            Drawing(
                title=panel.title,
                svg=svg(draw, f"curves{number}", f"{panel.title} over the epochs"),
                value=of_weights[-1] if of_weights else None,
                not_finite=sum(not math.isfinite(value) for value in _values(panel, history)),
            )
        )
    return found


def svg(
    draw: Callable[[Axes], None], name: str, description: str, inches: tuple[float, float] = DRAWING_INCHES
) -> Markup:
    """Return what a function draws as SVG for a page; `name` must differ from all others of the page."""
    style = {
        **LITERAL,
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # names within drawings must differ within a page
        "font.size": DRAWING_FONT,
        "xtick.labelsize": DRAWING_FONT,
        "ytick.labelsize": DRAWING_FONT,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
    }
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), TEXT)
    with mpl.rc_context(style):
        figure = Figure(figsize=inches, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        axes.grid(visible=True)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    # The fonts that matplotlib looks for say nothing to a browser; text inherits the page's, which may make it smaller.
    text = re.sub(
        r"font(?:-size)?: ([\d.]+px)(?:; font-family:)? [^;\"]*", r"font-size: calc(\1 * var(--text, 1))", text
    )
    text = text.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)
    return Markup(text)  # noqa: S704  # made above; matplotlib escapes the names that stand in it


def draw_panel(axes: Axes, panel: Panel, history: History, colours: Mapping[str, str]) -> None:
    """Draw the lines of a panel over the epochs; a value that is not finite leaves a gap."""
    stride = math.ceil(len(history) / MOST_POINTS)
    # The last epochs of strides, so that the very last one is among them.
    rows = list(history[::-1][::stride])[::-1]
    epochs = [row.get("epoch", math.nan) for row in rows]
    marker = "o" if len(rows) <= MOST_MARKED_POINTS else None
    for label, column in panel.lines.items():
        values = [value if math.isfinite(value := row.get(column, math.nan)) else math.nan for row in rows]
        axes.plot(epochs, values, marker=marker, markersize=3, linewidth=1.5, label=label, color=colours[label])
    scale(axes, _values(panel, rows), logarithmic=panel.logarithmic)
    set_epochs(axes, epochs)


def set_epochs(axes: Axes, epochs: Iterable[float]) -> None:
    """Make the horizontal axis one of whole epochs, also where there is one only."""
    known = [epoch for epoch in epochs if math.isfinite(epoch)]
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))
    if known and min(known) == max(known):
        axes.xaxis.set_major_locator(FixedLocator([known[0]]))


def scale(axes: Axes, values: Iterable[float], *, logarithmic: bool = True) -> None:
    """Give the vertical axis figures that people read; make it logarithmic where the values ask for that."""
    finite = [value for value in values if math.isfinite(value)]
    if logarithmic and finite and min(finite) > 0 and max(finite) / min(finite) >= LEAST_RATIO:
        decades = math.log10(max(finite) / min(finite))
        steps = (1, 1.5, 2, 3, 4, 5, 6, 8) if decades < 1 else (1, 2, 5) if decades < 2.5 else (1,)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=steps))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _values(panel: Panel, history: History) -> list[float]:
    return [row[column] for row in history for column in panel.lines.values() if column in row]


def _mark_epochs(axes: Axes, weights_epoch: int, best_epoch: int | None, colour: str) -> None:
    axes.axvline(weights_epoch, color=colour, linestyle=":", linewidth=1.6, label=f"epoch {weights_epoch}: the weights")
    if best_epoch is not None and best_epoch != weights_epoch:
        axes.axvline(best_epoch, color=colour, linestyle="--", linewidth=1, label=f"epoch {best_epoch}: the best")


def _add_legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    named = [(handle, label) for handle, label in zip(handles, labels, strict=True) if label]
    axes.legend(*zip(*named, strict=True), fontsize="small", frameon=False)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG file, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getbuffer())
