"""The figures of a phase's runs as columns of a table: what each run has, and which run has the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Literal

from attrs import field, frozen

from imginav.formatting import format_duration
from imginav.manifest.resolved import ResolvedPhase
from imginav.runs.evaluation_result import EvaluationResult
from imginav.study.selection import RunResult, definition_of
from imginav.training.metric_definitions import PROBE
from imginav_reports.html import figure, with_spread
from imginav_reports.varied_values import short_names, shown_value

Better = Literal["min", "max", ""]

MOST_OF_A_TIE = 0.5
"""Share of the runs; what more of them have in common distinguishes none."""


@frozen(kw_only=True)
class Cell:
    """What one run has."""

    text: str
    key: float | str | None = None  # what it is sorted by; none: it stands last
    best: bool = False


@frozen(kw_only=True)
class Column:
    """One figure of all runs."""

    heading: str
    definition: str = ""
    better: Better = ""  # whether less or more of it is better, where that is so
    cells: list[Cell] = field(factory=list)  # in the order of the runs


@frozen(kw_only=True)
class Measure:
    """How a figure is had of what came of a run, and how it is written."""

    heading: str
    value: Callable[[EvaluationResult], float | None]
    better: Better
    definition: str = ""
    text: Callable[[float], str] = field(default=lambda value: figure(value, 4))

    def column(self, evidence: Sequence[RunResult]) -> Column:
        """Return the column of all runs, with the best marked where they differ."""
        values = [finite(self.value(e.evaluation)) if e.evaluation else None for e in evidence]
        known = [value for value in values if value is not None]
        best = (min if self.better == "min" else max)(known) if self.better and known else None
        tie = known.count(best) > MOST_OF_A_TIE * len(known) if best is not None else True
        return Column(
            heading=self.heading,
            definition=self.definition,
            better=self.better,
            cells=[
                Cell(text=self.text(value), key=value, best=value == best and not tie)
                if value is not None
                else Cell(text="–" if e.evaluation else "")
                for e, value in zip(evidence, values, strict=True)
            ],
        )


METRICS: tuple[tuple[str, str, Better], ...] = (
    ("val_mse", "MSE", "min"),
    ("val_psnr_db", "PSNR (dB)", "max"),
    ("val_mean_iou", "mean IoU", "max"),
    ("val_wall_recall", "wall recall", "max"),
    ("val_palette_accuracy", "palette accuracy", "max"),
)
"""What matters of drawn plans; shown of them is what some run has."""

COSTS = (
    Measure(
        heading="dimensions",
        value=lambda o: math.prod(o.latent),
        better="min",
        definition="numbers of a latent: height × width × channels",
        text=lambda value: f"{value:,.0f}",
    ),
    Measure(
        heading="scaling factor",
        value=lambda o: o.latent_statistics.scaling_factor if o.latent_statistics else None,
        better="",
        definition="1 / standard deviation of the latent; multiply on encoding, divide before decoding",
    ),
    Measure(
        heading="parameters",
        value=lambda o: o.encoder_parameters + o.decoder_parameters,
        better="min",
        definition="of encoder and decoder",
        text=lambda value: f"{value:,.0f}",
    ),
    Measure(
        heading="GFLOPs",
        value=lambda o: (o.size.encode_flops + o.size.decode_flops) / 1e9 if o.size else None,
        better="min",
        definition="to encode and decode one whole layout; a multiplication and an addition count as two",
        text=lambda value: figure(value, 3),
    ),
    Measure(
        heading="encode (ms)",
        value=lambda o: o.latency.encode_ms if o.latency else None,
        better="min",
        definition="median of one whole layout",
        text=lambda value: figure(value, 3),
    ),
    Measure(
        heading="decode (ms)",
        value=lambda o: o.latency.decode_ms if o.latency else None,
        better="min",
        definition="median of one whole layout",
        text=lambda value: figure(value, 3),
    ),
)


def columns_of(phase: ResolvedPhase, evidence: Sequence[RunResult], chosen_by: str, mode: Better) -> list[Column]:
    """Return all columns: what the runs differ in, how well they rebuild (what decides comes first), the costs."""
    varied = [
        Column(heading=short, definition=key, cells=[_varied(e, key) for e in evidence])
        for short, key in zip(short_names(phase.varied), phase.varied, strict=True)
    ]
    titles = {name: (title, better) for name, title, better in METRICS} | (probes := _titles_of_probes(evidence))
    names = [name for name in dict.fromkeys([chosen_by, *titles]) if any(_has(e, name) for e in evidence)]
    quality = []
    for name in names:
        title, better = titles.get(name, (name, mode))
        if name in probes:
            quality.append(_probe_column(name, evidence, title, better))
            continue
        definition = next((text for e in evidence if (text := definition_of(name, e.resolved))), "")
        measure = Measure(heading=title, value=_metric(name), better=better, definition=definition or name)
        quality.append(measure.column(evidence))
    latents = [_latent(e) for e in evidence]
    costs = [cost.column(evidence) for cost in COSTS]
    epochs = [_epochs(e) for e in evidence]
    times = [
        Cell(text=format_duration(e.record.seconds), key=e.record.seconds) if e.record else Cell(text="")
        for e in evidence
    ]
    return [
        *varied,
        *quality,
        Column(heading="latent", definition="height × width × channels", cells=latents),
        *(column for column in costs if any(cell.key is not None for cell in column.cells)),
        Column(heading="epoch", definition="of the weights, of those that were trained", cells=epochs),
        Column(heading="time", definition="of training", cells=times),
    ]


def _titles_of_probes(evidence: Sequence[RunResult]) -> dict[str, tuple[str, Better]]:
    """Return the headings of the probes' metrics, and whether less or more of them is better."""
    probed = {name: metric for e in evidence if e.evaluation for name, metric in e.evaluation.probes.items()}
    return {
        name: (f"probe: {name.removeprefix(PROBE).replace('_', ' ')}", "max" if metric.more_is_better else "min")
        for name, metric in probed.items()
    }


def _probe_column(name: str, evidence: Sequence[RunResult], title: str, better: Better) -> Column:
    """Return the column of a probe's metric: the best is marked with all that are level with it by their seeds."""
    values = {e.run: e.evaluation.probes[name].values for e in evidence if _probed(e, name) and e.evaluation}
    means = {run: fmean(of) for run, of in values.items()}
    best = (min if better == "min" else max)(means, key=lambda run: means[run])

    def level(run: str) -> bool:  # as `Selector.levelled` has it
        return abs(means[run] - means[best]) <= max(values[best]) - min(values[best])

    tie = sum(map(level, means)) > MOST_OF_A_TIE * len(means)
    return Column(
        heading=title,
        definition=next(e.evaluation.probes[name].definition for e in evidence if e.evaluation and _probed(e, name)),
        better=better,
        cells=[
            Cell(text=with_spread(values[e.run]), key=means[e.run], best=level(e.run) and not tie)
            if e.run in values
            else Cell(text="–" if e.evaluation else "")
            for e in evidence
        ],
    )


def _probed(e: RunResult, name: str) -> bool:
    return e.evaluation is not None and name in e.evaluation.probes


def finite(value: float | None) -> float | None:
    """Return a value where it is finite."""
    return value if value is not None and math.isfinite(value) else None


def _varied(e: RunResult, key: str) -> Cell:
    value = e.resolved.changes.get(key)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = shown_value(e.resolved.changes, key)
    return Cell(text=text, key=value if number else text)


def _latent(e: RunResult) -> Cell:
    return (
        Cell(text="×".join(map(str, e.evaluation.latent)), key=math.prod(e.evaluation.latent))
        if e.evaluation
        else Cell(text="")
    )


def _epochs(e: RunResult) -> Cell:
    if e.evaluation:
        return Cell(text=f"{e.evaluation.weights_epoch} of {e.evaluation.epochs}", key=e.evaluation.weights_epoch)
    return Cell(text=e.state)


def _has(e: RunResult, metric: str) -> bool:
    return e.evaluation is not None and metric in e.evaluation.metrics


def _metric(name: str) -> Callable[[EvaluationResult], float | None]:
    return lambda evaluation: evaluation.metrics.get(name)
