"""The curves of a run as data for its page, where uPlot draws them: values at the cursor, zoom, logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from imginav_reports.charts import LEAST_RATIO, History, panels

MOST_POINTS = 2000
"""Upper bound on the points of a curve; a page with a dozen curves stays small."""

VENDOR = Path(__file__).parent / "vendor"
"""Code of others that the page inlines; its README says which."""

COLOURS = {"train": "--train", "validation": "--validation", "": "--single"}
"""Variables of the page's style for the curves of epochs."""

LOSS, LOSS_OF_STEPS = "loss", "loss_"
"""The column of the loss, and the beginning of those of its terms."""

NO_CURVE = ("step", "epoch", "steps")
"""Columns of the log of steps that say where a row stands."""


def library() -> dict[str, Markup]:
    """Return script and style of uPlot and the script that uses it, to stand in a page as they are."""
    return {
        "script": Markup((VENDOR / "uPlot.iife.min.js").read_text(encoding="utf-8").strip()),  # noqa: S704  # our file
        "style": Markup((VENDOR / "uPlot.min.css").read_text(encoding="utf-8").strip()),  # noqa: S704  # our file
        "curves": Markup((VENDOR.parent / "templates" / "curves.js").read_text(encoding="utf-8")),  # noqa: S704  # ours
    }


def plots_of_epochs(history: History, weights_epoch: int, best_epoch: int | None) -> list[dict[str, Any]]:
    """Return a plot for each panel of `charts.panels`, in their order."""
    rows = _thinned(history)
    marks = [{"at": weights_epoch, "dash": [2, 3]}]
    if best_epoch is not None and best_epoch != weights_epoch:
        marks.append({"at": best_epoch, "dash": [6, 4]})
    return [
        {
            "title": panel.title,
            "x": "epoch",
            "xs": [_number(row.get("epoch")) for row in rows],
            "series": [
                {"label": label or panel.title, "colour": COLOURS[label], "values": _values(rows, column)}
                for label, column in panel.lines.items()
            ],
            "marks": marks,
            "log": panel.logarithmic and _asks_for_logarithm(rows, list(panel.lines.values())),
        }
        for panel in panels(history)
    ]


def plots_of_steps(steps: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return a plot for each value of the log of steps; where rows stand for several steps, with their range."""
    rows = _thinned(steps)
    names = dict.fromkeys(name for row in rows for name in row)
    found = []
    for name in sorted(names, key=lambda name: name != LOSS):  # as for epochs, the loss comes before its terms
        if name in NO_CURVE or name.startswith(("min_", "max_")):
            continue
        values = _values(rows, name)
        if all(value is None for value in values):
            continue
        series: list[dict[str, Any]] = [
            {"label": "mean" if _several(rows) else "value", "colour": "--train", "values": values}
        ]
        if _several(rows) and {f"min_{name}", f"max_{name}"} <= names.keys():
            series += [
                {"label": label, "colour": "--train", "band": True, "values": _values(rows, f"{part}_{name}")}
                for label, part in (("largest", "max"), ("least", "min"))
            ]
        found.append(
            {
                "title": _title(name),
                "x": "step",
                "xs": [_number(row.get("step")) for row in rows],
                "series": series,
                "marks": [],
                "log": name != "learning_rate" and _asks_for_logarithm(rows, [name]),
            }
        )
    return found


def _title(name: str) -> str:
    if name.startswith(LOSS_OF_STEPS):
        return f"loss term: {name.removeprefix(LOSS_OF_STEPS)}"
    return name.replace("_", " ")


def _several(rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether some row stands for more than one step."""
    return any(row.get("steps", 1) > 1 for row in rows)


def _thinned(rows: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Return at most `MOST_POINTS` rows with a place on the horizontal axis, evenly chosen, the last among them."""
    stride = math.ceil(len(rows) / MOST_POINTS) or 1
    return list(rows[::-1][::stride])[::-1]


def _values(rows: Sequence[Mapping[str, float]], column: str) -> list[float | None]:
    return [_number(row.get(column)) for row in rows]


def _number(value: float | None) -> float | None:
    """Return a finite number with the digits that a screen can show; None leaves a gap."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) < 1e15 else float(f"{value:.6g}")


def _asks_for_logarithm(rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> bool:
    """Whether all finite values are above zero, and far enough from each other for a logarithmic axis."""
    known = [value for row in rows for name in columns if (value := _number(row.get(name))) is not None]
    return bool(known) and min(known) > 0 and max(known) / min(known) >= LEAST_RATIO
