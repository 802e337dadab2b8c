"""`README.md` of an export: the model card, in the format of the Hugging Face Hub, of what was measured alone."""

from __future__ import annotations

import json
import math
from typing import Any

import jinja2

from imginav.runs.evaluation_result import EvaluationResult, RankedLayout
from imginav_handoff.export_folder import ExportRecord
from imginav_handoff.exporter import Exporter
from imginav_handoff.golden import TOLERANCES
from imginav_handoff.latent_space import LatentSpace
from imginav_reports.html import figure, moment

TEMPLATE = "model_card.md.j2"

WIDE_PATHS = 60
"""Characters of a layout's name that are shown, the last ones."""


def model_card(
    record: ExportRecord, evaluation: EvaluationResult, latent: LatentSpace, exporter: Exporter, folder: str
) -> str:
    """Return the card of an export as Markdown; what was not measured is not in it, or is named with the reason."""
    environment = jinja2.Environment(  # noqa: S701  # Markdown; what could break a table is escaped by its filter
        loader=jinja2.PackageLoader("imginav_handoff"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"figure": figure, "moment": moment, "cell": cell, "yaml": as_yaml}
    return environment.get_template(TEMPLATE).render(
        record=record,
        evaluation=evaluation,
        latent=latent,
        figures=_figures(evaluation),
        by_type=_by_type(evaluation),
        worst=_worst(evaluation.reconstruction.worst),
        limits=_limits(record, evaluation, latent),
        tolerances=TOLERANCES,
        code=exporter.how_to_load(folder).strip(),
        scaling=exporter.scaling,
    )


def cell(text: object) -> str:
    """Return text that can stand in a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def as_yaml(value: Any) -> str:
    """Return a value as YAML, which takes all of JSON."""
    return json.dumps(value, ensure_ascii=False)


def _figures(evaluation: EvaluationResult) -> list[tuple[str, float, str, str]]:
    """Return name, value, arrow and definition of each figure that is finite."""
    shown = evaluation.reconstruction
    return [
        (name, evaluation.metrics[name], "↑" if name in shown.more_is_better else "↓", definition)
        for name, definition in shown.definitions.items()
        if math.isfinite(evaluation.metrics.get(name, math.nan))
    ]


def _by_type(evaluation: EvaluationResult) -> list[tuple[str, int, dict[str, float]]]:
    shown = evaluation.reconstruction
    return [(kind, shown.layouts.get(kind, 0), figures) for kind, figures in shown.by_type.items()]


def _worst(ranked: tuple[RankedLayout, ...]) -> str:
    return f"{ranked[0].name[-WIDE_PATHS:]} with MSE {figure(ranked[0].mse, 3)}" if ranked else ""


def _limits(record: ExportRecord, evaluation: EvaluationResult, latent: LatentSpace) -> list[str]:
    """Return what is known to be wrong or not known, a sentence each."""
    limits = []
    if evaluation.trial:
        limits.append("It was trained at trial scale, which shows that the chain works, and no more.")
    if latent.dead_channels:
        numbers = ", ".join(map(str, latent.dead_channels))
        limits.append(f"Of its {latent.channels} channels, these carry next to nothing: {numbers}.")
    limits += [
        f"It cannot be used in {precision}: {measured.fault}."
        for precision, measured in record.precisions.items()
        if measured.fault
    ]
    left_out = [precision for precision in TOLERANCES if precision not in record.precisions]
    if left_out:
        limits.append(f"In this format it was not tried in {' and '.join(left_out)}.")
    limits += [f"{name} was not measured: {why}." for name, why in evaluation.reconstruction.not_measured.items()]
    statistics = evaluation.latent_statistics
    if statistics and statistics.noise:
        clean, *noisy = statistics.noise
        limits += [
            f"Noise of {level.level:g} standard deviations on the latent raises the MSE of what is decoded from "
            f"{figure(clean.mse, 3)} to {figure(level.mse, 3)} ({statistics.sampled_layouts} validation layouts)."
            for level in noisy[-1:]
        ]
    return limits
