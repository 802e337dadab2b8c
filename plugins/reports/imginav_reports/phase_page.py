"""The experiments of a phase side by side: a table, three pictures, one page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
import torch
from attrs import frozen
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imginav.data.batches import rgb_of
from imginav.data.loader import first_samples, split_as
from imginav.errors import UserError
from imginav.files import write_text
from imginav.manifest.resolved import ResolvedPhase
from imginav.manifest.winners import Winner
from imginav.pixels import to_bytes
from imginav.plugin.checkpoint import load_checkpoint
from imginav.plugin.data_spec import DataSpec
from imginav.plugin.selector import Selector
from imginav.runs.evaluation_result import EvaluationResult
from imginav.runs.experiment import run_folder
from imginav.study.selection import RunResult, candidates_for
from imginav.training.assembly import build_model
from imginav.training.device import open_device
from imginav_evaluation import pictures
from imginav_evaluation.csv_files import write_rows
from imginav_evaluation.pictures import Pixels
from imginav_reports.charts import EXPERIMENTS, LITERAL, MARK, MOST_MARKED_POINTS, scale, set_epochs, svg, write_figure
from imginav_reports.comparison_table import deciding_metric
from imginav_reports.html import page
from imginav_reports.inline_images import Picture, embedded
from imginav_reports.metrics_file import read_metrics
from imginav_reports.phase_runs import run_table
from imginav_reports.run_page import PAGE, PICTURE_BYTES, PROBE_BYTES, probe_pictures
from imginav_reports.side_by_side import columns_of

LAYOUTS_SHOWN = 4
MOST_TILES = 7
"""Tiles of 256 pixels that fit beside each other; with more experiments they become smaller."""

SERIES = len(EXPERIMENTS)
"""Colours of experiments; with more of them, they come round."""

PICTURE_COLOURS = ("#d98e00", *(f"C{number}" for number in range(SERIES)))
PAGE_COLOURS = (MARK, *EXPERIMENTS)
"""The winner's, and those of the experiments in turn."""

History = tuple[str, bool, list[tuple[int, float]]]
"""The label of a run, whether it won, and a metric by epoch."""


@frozen(kw_only=True)
class Run:
    """One run in the table of the page."""

    name: str
    report: str  # the URL of its page, relative to this one; empty if it has none
    won: bool


Draw = Callable[[Axes, Sequence[str]], None]
"""Draws onto axes, in some colours: the winner's first, then those of others in turn."""


def write(phase: ResolvedPhase, evidence: Sequence[RunResult], winner: Winner | None) -> None:
    """Write comparison.csv, three pictures and the page into the phase's folder."""
    shared = phase.shared
    _write_csv(shared / "comparison.csv", phase, evidence, winner)
    histories = _histories(phase, evidence, winner)
    drawn: list[tuple[str, str, Draw]] = []
    if winner is not None and len(winner.experiments) > 1:
        drawn.append(("Quality against latent dimensions", "comparison_quality.png", partial(_draw_quality, winner)))
    if histories:
        curves = partial(_draw_curves, deciding_metric(phase, winner)[0], histories)
        drawn.append(("Validation over the epochs", "comparison_curves.png", curves))
    for title, name, draw in drawn:
        _write_drawing(shared / name, f"{phase.heading}: {title.lower()}", draw)
    layouts = shared / "comparison_layouts.png"
    _draw_layouts(layouts, phase, evidence, winner)
    html = page(
        "phase.html.j2",
        heading=phase.heading,
        source=phase.source,
        scale="at trial scale" if phase.experiments[0].trial else "at full scale",
        winner=winner,
        rules=_rules(phase, evidence) if len(phase.names) > 1 else [],
        columns=columns_of(phase, evidence, *deciding_metric(phase, winner)),
        runs=[_run(phase, e, winner) for e in evidence],
        timed_on=sorted(
            {f"{o.latency.device}, {o.latency.precision}" for e in evidence if (o := e.evaluation) and o.latency}
        ),
        drawings=[(title, _svg(title, name, draw)) for title, name, draw in drawn],
        legend=[(label, place % SERIES, won) for place, (label, won, _) in enumerate(histories)],
        layouts=embedded([layouts], 2 * PICTURE_BYTES).get(layouts),
        samples=_samples(phase, evidence),
        lineage=[earlier.summary for earlier in phase.lineage.values()],
        single=len(phase.experiments) == 1,
        all_runs=run_table(phase),
    )
    write_text(shared / PAGE, html)


def _rules(phase: ResolvedPhase, evidence: Sequence[RunResult]) -> list[tuple[str, str, str]]:
    """Return what each installed rule would choose among the finished experiments: the rule, the winner, and why."""
    own = [phase.selector] if phase.selector else []
    kinds = [r.component for r in phase.structurer.registry if issubclass(r.component, Selector)]
    others = [kind() for kind in kinds if not (own and isinstance(own[0], kind))]
    found = []
    for rule in (*own, *others):
        with suppress(UserError):  # a metric that it reads was not measured
            if candidates := candidates_for(phase, rule, evidence):
                choice = rule.select(candidates)
                found.append((rule.rule, choice.winner, choice.because))
    return found


def _write_csv(path: Path, phase: ResolvedPhase, evidence: Sequence[RunResult], winner: Winner | None) -> None:
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
        if e.evaluation:
            height, width, channels = e.evaluation.latent
            row |= {
                "latent_height": height,
                "latent_width": width,
                "latent_channels": channels,
                "latent_dimensions": height * width * channels,
                "encoder_parameters": e.evaluation.encoder_parameters,
                "decoder_parameters": e.evaluation.decoder_parameters,
                "latency_ms": e.evaluation.latency_ms or "",
                **_costs(e.evaluation),
                "epochs": e.evaluation.epochs,
                "weights_epoch": e.evaluation.weights_epoch,
                **e.evaluation.metrics,
            }
        if e.record:
            row["seconds"] = e.record.seconds
        rows.append(row)
    write_rows(path, rows)


def _costs(evaluation: EvaluationResult) -> dict[str, Any]:
    """Return what is known beside the metrics of what an autoencoder costs, and of its latent."""
    latency, size, latent = evaluation.latency, evaluation.size, evaluation.latent_statistics
    return {
        **({"encode_ms": latency.encode_ms, "decode_ms": latency.decode_ms} if latency else {}),
        **({"encode_flops": size.encode_flops, "decode_flops": size.decode_flops} if size else {}),
        **({"scaling_factor": latent.scaling_factor} if latent else {}),
    }


def _write_drawing(path: Path, title: str, draw: Draw) -> None:
    """Draw into a PNG file of its own, with a title and a legend."""
    with mpl.rc_context(LITERAL):
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.subplots()
        draw(axes, PICTURE_COLOURS)
        axes.grid(alpha=0.25, which="both")
        axes.set_title(title)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        write_figure(path, figure)


def _svg(title: str, name: str, draw: Draw) -> Markup:
    """Draw for the page, which has the title and the legend."""
    return svg(lambda axes: draw(axes, PAGE_COLOURS), name, title)


def _draw_quality(winner: Winner, axes: Axes, colours: Sequence[str]) -> None:
    """Draw quality against latent dimensions, the winner marked; with several seeds, from the worst to the best."""
    shown = {name: c for name, c in winner.experiments.items() if c.mean is not None and c.latent_dimensions}
    for name, candidate in shown.items():
        mean, dimensions = candidate.mean or 0.0, candidate.latent_dimensions or 1
        won = name == winner.winner
        axes.errorbar(
            dimensions,
            mean,
            yerr=[[mean - min(candidate.values)], [max(candidate.values) - mean]],
            fmt="*" if won else "o",
            markersize=18 if won else 8,
            color=colours[0] if won else colours[1],
            capsize=4,
        )
        axes.annotate(name, (dimensions, mean), xytext=(0, 11), textcoords="offset points", ha="center")
    axes.set_xscale("log", base=2)
    axes.set_xticks(*_ticks({c.latent_dimensions or 1 for c in shown.values()}))
    scale(axes, [value for c in shown.values() for value in c.values])
    axes.margins(x=0.15, y=0.2)
    direction = "lower" if winner.metric.mode == "min" else "higher"
    axes.set(xlabel="latent dimensions (H × W × C)", ylabel=f"{winner.metric.name} ({direction} is better)")


def _draw_curves(metric: str, histories: Sequence[History], axes: Axes, colours: Sequence[str]) -> None:
    """Draw a metric of all experiments over the epochs."""
    for place, (label, won, points) in enumerate(histories):
        axes.plot(
            *zip(*points, strict=True),
            marker="o" if len(points) <= MOST_MARKED_POINTS else None,
            markersize=3,
            linewidth=2.8 if won else 1.5,
            color=colours[1 + place % SERIES],
            label=label,
        )
    scale(axes, [value for _, _, points in histories for _, value in points])
    set_epochs(axes, [epoch for _, _, points in histories for epoch, _ in points])
    axes.set_ylabel(metric)


def _run(phase: ResolvedPhase, e: RunResult, winner: Winner | None) -> Run:
    report = f"{e.run}_{PAGE}"
    return Run(
        name=phase.label(e.resolved),
        report=quote(report) if (phase.shared / report).is_file() else "",
        won=bool(winner and e.resolved.name == winner.winner),
    )


def _histories(phase: ResolvedPhase, evidence: Sequence[RunResult], winner: Winner | None) -> list[History]:
    """Return the metric of each run over the epochs, of those that have a finite value of it."""
    metric, _ = deciding_metric(phase, winner)
    found = []
    for e in evidence:
        rows = read_metrics(run_folder(e.resolved).metrics) if e.record and not e.state.startswith("of other") else []
        points = [(int(row["epoch"]), row[metric]) for row in rows if metric in row]
        won = bool(winner and winner.winner == e.resolved.name)
        if any(math.isfinite(value) for _, value in points):
            finite = [(epoch, value if math.isfinite(value) else math.nan) for epoch, value in points]
            found.append((phase.label(e.resolved) + (" ★" if won else ""), won, finite))
    return found


def _ticks(dimensions: Iterable[int]) -> tuple[list[int], list[str]]:
    """Return the places of latent dimensions on an axis, and how they are written there."""
    places = sorted(dimensions)
    return places, [f"{place:,}" for place in places]


def _draw_layouts(path: Path, phase: ResolvedPhase, evidence: Sequence[RunResult], winner: Winner | None) -> None:
    """Draw the same validation layouts as each experiment reconstructs them; without any, write nothing."""
    first = phase.experiments[0].manifest
    source = first.data.open()
    samples, _ = first_samples(source, split_as(source, first.train).validation, LAYOUTS_SHOWN)
    if not samples:
        return
    layouts = np.stack([rgb_of(sample, source.spec.palette) for sample in samples])
    columns: list[tuple[str, Pixels]] = [("input", layouts)]
    for e in evidence:
        own = e.resolved.manifest.data
        # Experiments may have other classes, on which their decoders depend.
        rebuilt = _rebuilt(e, source.spec if own == first.data else own.open().spec, layouts) if e.evaluation else None
        if rebuilt is not None and e.evaluation:
            won = "  WON" if winner and winner.winner == e.resolved.name else ""
            columns.append((f"{phase.label(e.resolved)}  val MSE {e.metric('val_mse'):.4g}{won}", rebuilt))
    if len(columns) == 1:
        return
    tile = 256 if len(columns) <= MOST_TILES else max(96, 256 * MOST_TILES // len(columns))
    rows = [[images[number] for _, images in columns] for number in range(len(layouts))]
    pictures.write_png(path, pictures.grid(rows, [caption for caption, _ in columns], tile))


def _samples(phase: ResolvedPhase, evidence: Sequence[RunResult]) -> list[tuple[str, Picture]]:
    """Return the first picture of each probe of each run, such as its samples, with the names of both."""
    captions: dict[Path, str] = {}
    for e in evidence:
        if e.evaluation is None or not e.evaluation.probes:
            continue
        drawn = groupby(probe_pictures(run_folder(e.resolved).root), key=lambda path: path.parent.name)
        captions |= {next(group): f"{phase.label(e.resolved)}, {probe}" for probe, group in drawn}
    shown = embedded(list(captions), 3 * PROBE_BYTES)
    return [(captions[path], picture) for path, picture in shown.items()]


@torch.no_grad()
def _rebuilt(e: RunResult, spec: DataSpec, layouts: Pixels) -> Pixels | None:
    """Return layouts (N, H, W, 3) as the weights that a run left rebuild them, or none where they are not there."""
    manifest, folder = e.resolved.manifest, run_folder(e.resolved)
    for path in (folder.best_checkpoint, folder.latest_checkpoint):
        with suppress(UserError):
            checkpoint = load_checkpoint(path)
            if (
                e.evaluation
                and checkpoint.epoch == e.evaluation.weights_epoch
                and "rgb" in manifest.decoder.output_names
            ):
                break
    else:
        return None
    device = open_device(manifest.machine)
    model = build_model(manifest, spec)
    model.load_state_dict(checkpoint.model)
    device.place(model)
    model.eval()
    rebuilt = []
    for layout in layouts:  # one at a time: whole layouts take much memory
        with device.autocast():
            outputs = model(device.images({"rgb": torch.from_numpy(layout)[None]}))
        rebuilt.append(to_bytes(outputs["rgb"])[0])
    return np.stack(rebuilt)
