"""The experiments of a phase side by side: a table, three pictures, one page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import frozen
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imginav import pictures
from imginav.autoencoder import build_autoencoder
from imginav.charts import scale_log
from imginav.checkpoint import load_checkpoint
from imginav.components import LayoutSource
from imginav.data import first_samples, split_as
from imginav.device import open_device, to_bytes
from imginav.embedding import data_uris
from imginav.errors import UserError
from imginav.listing import duration
from imginav.loading import ResolvedPhase
from imginav.pictures import Pixels, write_figure
from imginav.report import PAGE, PICTURE_BYTES, page
from imginav.run import run_folder
from imginav.rundir import write_text
from imginav.seeds import Seeds
from imginav.selection import Evidence
from imginav.sweeps import short_names, shown_value
from imginav.winners import Winner

LAYOUTS_SHOWN = 4
MOST_TILES = 7
"""Tiles of 256 pixels that fit beside each other; with more experiments they become smaller."""

WINNER_COLOUR = "#d98e00"


@frozen
class Row:
    """One run in the table."""

    cells: tuple[str, ...]
    won: bool


def write(phase: ResolvedPhase, evidence: Sequence[Evidence], winner: Winner | None) -> None:
    """Write comparison.csv, three pictures and the page into the phase's folder."""
    shared = phase.shared
    _write_csv(shared / "comparison.csv", phase, evidence, winner)
    drawings = {
        "Quality against latent dimensions": ("comparison_quality.png", _draw_quality),
        "Validation over the epochs": ("comparison_curves.png", _draw_curves),
        "The same layouts, as each experiment rebuilds them": ("comparison_layouts.png", _draw_layouts),
    }
    made = {
        title: shared / name for title, (name, draw) in drawings.items() if draw(shared / name, phase, evidence, winner)
    }
    columns, rows = table(phase, evidence, winner)
    html = page(
        "phase.html.j2",
        heading=phase.heading,
        source=phase.source,
        scale="at trial scale" if phase.experiments[0].trial else "at full scale",
        winner=winner,
        columns=columns,
        rows=rows,
        pictures=list(zip(made, data_uris(list(made.values()), 2 * PICTURE_BYTES), strict=False)),
        lineage=[earlier.summary for earlier in phase.lineage.values()],
        reports=[(e.run, f"{e.run}_report.html") for e in evidence if (shared / f"{e.run}_report.html").is_file()],
    )
    write_text(shared / PAGE, html)


def table(phase: ResolvedPhase, evidence: Sequence[Evidence], winner: Winner | None) -> tuple[list[str], list[Row]]:
    """Return headings and rows for people: what the experiments differ in, and what came of it."""
    metric = winner.metric.name if winner else phase.selector.metric if phase.selector else "val_mse"
    metrics = list(dict.fromkeys([metric, "val_mse", "val_psnr_db"]))
    columns = ["experiment", *short_names(phase.varied), "latent", "dimensions", "parameters", "ms", *metrics]
    rows = []
    for e in evidence:
        outcome = e.outcome
        won = bool(winner and e.resolved.name == winner.winner)
        cells = [
            phase.label(e.resolved) + (" ★" if won else ""),
            *(shown_value(e.resolved.changes, key) for key in phase.varied),
        ]
        if outcome:
            cells += [
                "×".join(map(str, outcome.latent)),
                f"{math.prod(outcome.latent):,}",
                f"{outcome.encoder_parameters + outcome.decoder_parameters:,}",
                f"{outcome.latency_ms:.3g}" if outcome.latency_ms else "",
                *(f"{e.metric(name):#.4g}" for name in metrics),
                f"{outcome.weights_epoch} of {outcome.epochs}",
            ]
        else:
            cells += ["", "", "", "", *("" for _ in metrics), e.state]
        cells.append(duration(e.record.seconds) if e.record else "")
        rows.append(Row(tuple(cells), won))
    return [*columns, "epoch", "time"], rows


def _write_csv(path: Path, phase: ResolvedPhase, evidence: Sequence[Evidence], winner: Winner | None) -> None:
    """Write a row for each run with everything that can be compared, for people's own tools."""
    rows = []
    for e in evidence:
        row: dict[str, Any] = {
            "experiment": e.resolved.name,
            "seed": e.resolved.manifest.train.seed,
            "run": e.run,
            "state": e.state,
            "won": bool(winner and winner.winner == e.resolved.name),
            **{key: e.resolved.changes.get(key, "") for key in phase.varied},
        }
        if e.outcome:
            height, width, channels = e.outcome.latent
            row |= {
                "latent_height": height,
                "latent_width": width,
                "latent_channels": channels,
                "latent_dimensions": height * width * channels,
                "encoder_parameters": e.outcome.encoder_parameters,
                "decoder_parameters": e.outcome.decoder_parameters,
                "latency_ms": e.outcome.latency_ms or "",
                "epochs": e.outcome.epochs,
                "weights_epoch": e.outcome.weights_epoch,
                **e.outcome.metrics,
            }
        if e.record:
            row["seconds"] = e.record.seconds
        rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _draw_quality(path: Path, phase: ResolvedPhase, evidence: Sequence[Evidence], winner: Winner | None) -> bool:
    """Draw quality against latent dimensions, the winner marked; return whether there is anything to compare."""
    if winner is None or len(winner.experiments) == 1:
        return False
    shown = {name: c for name, c in winner.experiments.items() if c.mean is not None and c.latent_dimensions}
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, contender in shown.items():
        mean, dimensions = contender.mean or 0.0, contender.latent_dimensions or 1
        won = name == winner.winner
        low, high = mean - min(contender.values), max(contender.values) - mean
        axes.errorbar(
            dimensions,
            mean,
            yerr=[[low], [high]],
            fmt="*" if won else "o",
            markersize=18 if won else 8,
            color=WINNER_COLOUR if won else "#3b6ea8",
            capsize=4,
        )
        axes.annotate(f"{name} {contender.latent}", (dimensions, mean), xytext=(9, 6), textcoords="offset points")
    axes.set_xscale("log", base=2)
    axes.set_xticks(*_ticks({c.latent_dimensions or 1 for c in shown.values()}))
    if all((c.mean or 0) > 0 for c in shown.values()):
        scale_log(axes)
    axes.margins(x=0.25, y=0.15)
    axes.grid(alpha=0.25, which="both")
    direction = "lower" if winner.metric.mode == "min" else "higher"
    axes.set(
        title=f"{phase.heading}: {winner.winner} won ({winner.rule})",
        xlabel="latent dimensions (height × width × channels)",
        ylabel=f"{winner.metric.name} ({direction} is better)",
    )
    axes.title.set_parse_math(False)  # a dollar sign in it begins no formula
    write_figure(path, figure)
    return True


def _draw_curves(path: Path, phase: ResolvedPhase, evidence: Sequence[Evidence], winner: Winner | None) -> bool:
    """Draw the validation of all experiments over the epochs; return whether there was anything to draw."""
    metric = winner.metric.name if winner else phase.selector.metric if phase.selector else "val_mse"
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    drawn = False
    for e in evidence:
        history = _history(run_folder(e.resolved).metrics) if e.record and not e.state.startswith("of other") else []
        points = [(int(row["epoch"]), float(row[metric])) for row in history if metric in row]
        if not points:
            continue
        drawn = True
        won = bool(winner and winner.winner == e.resolved.name)
        label = phase.label(e.resolved) + (" ★" if won else "")
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=2.6 if won else 1.4, label=label)
    values = [float(value) for line in axes.get_lines() for value in np.asarray(line.get_ydata())]
    if values and min(values) > 0:
        scale_log(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25, which="both")
    axes.set(title=f"{phase.heading}: validation over the epochs", xlabel="epoch", ylabel=metric)
    axes.title.set_parse_math(False)
    if drawn:
        axes.legend()
        write_figure(path, figure)
    return drawn


def _ticks(dimensions: Iterable[int]) -> tuple[list[int], list[str]]:
    """Return the places of latent dimensions on an axis, and how they are written there."""
    places = sorted(dimensions)
    return places, [f"{place:,}" for place in places]


def _draw_layouts(path: Path, phase: ResolvedPhase, evidence: Sequence[Evidence], winner: Winner | None) -> bool:
    """Draw the same validation layouts as all experiments rebuild them; return whether any could be had."""
    first = phase.experiments[0].manifest
    source = first.data.open()
    samples, _ = first_samples(source, split_as(source, first.train).validation, LAYOUTS_SHOWN)
    if not samples:
        return False
    layouts = np.stack([sample["rgb"] for sample in samples])
    columns: list[tuple[str, Pixels]] = [("input", layouts)]
    for e in evidence:
        rebuilt = _rebuilt(e, source, layouts) if e.outcome else None
        if rebuilt is not None and e.outcome:
            won = "  WON" if winner and winner.winner == e.resolved.name else ""
            columns.append((f"{phase.label(e.resolved)}  val MSE {e.metric('val_mse'):.4g}{won}", rebuilt))
    if len(columns) == 1:
        return False
    tile = 256 if len(columns) <= MOST_TILES else max(96, 256 * MOST_TILES // len(columns))
    rows = [[images[number] for _, images in columns] for number in range(len(layouts))]
    pictures.write_png(path, pictures.grid(rows, [caption for caption, _ in columns], tile))
    return True


@torch.no_grad()
def _rebuilt(e: Evidence, source: LayoutSource, layouts: Pixels) -> Pixels | None:
    """Return layouts (N, H, W, 3) as the weights that a run left rebuild them, or none where they are not there."""
    manifest, folder = e.resolved.manifest, run_folder(e.resolved)
    for path in (folder.best_checkpoint, folder.latest_checkpoint):
        with suppress(UserError):
            checkpoint = load_checkpoint(path)
            if e.outcome and checkpoint.epoch == e.outcome.weights_epoch and "rgb" in manifest.decoder.heads:
                break
    else:
        return None
    device = open_device(manifest.machine)
    model = build_autoencoder(manifest.encoder, manifest.decoder, source.spec, Seeds(0))
    model.load_state_dict(checkpoint.model)
    device.place(model)
    model.eval()
    rebuilt = []
    for layout in layouts:  # one at a time: whole layouts take much memory
        with device.autocast():
            outputs = model(device.batch({"rgb": torch.from_numpy(layout)[None]})["rgb"])
        rebuilt.append(to_bytes(outputs["rgb"])[0])
    return np.stack(rebuilt)


def _history(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:  # the callback that writes it may be switched off
        return []
