"""What a person looks at when a run has ended: summary, curves, interpolation, one page."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imginav import pictures
from imginav.evaluation import BEST, INTERPOLATION, WORST
from imginav.layers import value_at
from imginav.loading import ResolvedManifest
from imginav.outcome import Outcome
from imginav.rundir import write_text

PAGE = "report.html"
CURVES = "curves.png"

History = Sequence[Mapping[str, float]]
"""A row of metrics for each epoch, as the metrics CSV has it."""


def summary(outcome: Outcome, folder: Path) -> str:
    """Return the end of a run as lines for a terminal."""
    rows = [*outcome.facts(), ("files", str(folder)), ("look at", str(folder / PAGE))]
    width = max(len(name) for name, _ in rows)
    return "\n".join(["", outcome.title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def write(outcome: Outcome, folder: Path, resolved: ResolvedManifest, history: History = ()) -> None:
    """Write the page into a folder that holds what was measured, and curves.png where there is a history of epochs."""
    images = [path for name in (INTERPOLATION, WORST, BEST) if (path := folder / name).is_file()]
    if history:
        images.insert(0, folder / CURVES)
        _write_curves(images[0], history, outcome.weights_epoch)
    images += sorted((folder / "samples").glob("epoch_*.png"))[-1:]
    write_text(folder / PAGE, _report_page(outcome, folder, resolved, images))


def _write_curves(path: Path, history: History, weights_epoch: int) -> None:
    epochs = [row["epoch"] for row in history]
    terms = [name.removeprefix("train_") for name in history[0] if name.startswith("train_loss")]
    names = [name for name in terms if not name.endswith("_weighted")]
    panels: list[tuple[str, dict[str, str]]] = [
        (name.replace("loss_", "loss term: "), {"train": f"train_{name}", "validation": f"val_{name}"})
        for name in names
    ]
    if "val_psnr_db" in history[0]:
        panels.append(("PSNR of the mean MSE (dB)", {"validation": "val_psnr_db"}))
    panels.append(("learning rate", {"training": "learning_rate"}))
    columns = 2
    figure = Figure(figsize=(11, 3.1 * math.ceil(len(panels) / columns)), layout="constrained")
    grid = figure.subplots(math.ceil(len(panels) / columns), columns, squeeze=False).flatten()
    for axes, (title, lines) in zip(grid, panels, strict=False):
        for label, column in lines.items():
            axes.plot(epochs, [row.get(column, math.nan) for row in history], marker="o", markersize=3, label=label)
        if title.startswith("loss") and all(row.get(c, 1) > 0 for row in history for c in lines.values()):
            axes.set_yscale("log")
        axes.axvline(weights_epoch, color="0.6", linestyle=":", label=f"epoch {weights_epoch}")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize="small")
        axes.grid(alpha=0.25)
    for axes in grid[len(panels) :]:
        axes.remove()
    pictures.write_figure(path, figure)


def _report_page(outcome: Outcome, folder: Path, resolved: ResolvedManifest, images: Sequence[Path]) -> str:
    values = [(key, value_at(resolved.tables, key.split(".")), origin) for key, origin in resolved.origins.items()]
    deliverables = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return page(
        "report.html.j2",
        outcome=outcome,
        folder=folder,
        values=values,
        deliverables=[*deliverables, PAGE],
        pictures=[(path.relative_to(folder), data_uri(path)) for path in images],
    )


def page(template: str, **values: Any) -> str:
    """Return a page of HTML that needs no other file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imginav"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(**values)


def data_uri(path: Path) -> str:
    """Return a PNG file as the address of a picture within a page."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
