"""The metrics of an epoch by name: what each stands for, and which columns a run has."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from imginav.errors import UserError
from imginav.manifest.tables import Evaluation
from imginav.plugin.components import Measured

TOTAL = "loss"
"""The name of the weighted sum among the terms."""

PART = "val_"
"""Prefix of the metrics of validation layouts."""

PROBE = "probe_"
"""Prefix of the metrics of probes."""


def figure_definitions(
    entries: Mapping[str, Measured], prefix: str = PART, table: str = "evaluation.metrics"
) -> dict[str, str]:
    """Return the definitions of the figures of some metrics, by name; raises UserError if two have the same name."""
    definitions: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name, entry in entries.items():
        for figure, text in entry.definitions.items():
            if figure in owners:
                raise UserError(
                    f"{table}.{name} and {table}.{owners[figure]} both measure {figure!r}; "
                    f"switch one off: {table}.{name} = false"
                )
            owners[figure] = name
            definitions[f"{prefix}{figure}"] = text
    return definitions


def definitions_of(evaluation: Evaluation) -> dict[str, str]:
    """Return the definitions of all metrics and probes' metrics that a run is evaluated by."""
    return figure_definitions(evaluation.metrics) | figure_definitions(evaluation.probes, PROBE, "evaluation.probes")


DEFINITIONS = {
    "val_mse": "mean squared error over all pixels of all whole validation layouts, in [-1, 1]",
    "val_psnr_db": "PSNR in dB of the mean squared error over all pixels of all whole validation layouts",
    "val_unmatched_share": "share of the pixels of all whole validation layouts that match no class",
}
"""What those metrics stand for that are the same in every manifest; a change of one changes its text."""


def metric_columns(weights: Mapping[str, float], outputs: Collection[str]) -> list[str]:
    """Return the names of the metrics of an epoch, which `train.monitor` can choose from.

    They follow from the names of the losses, here with their weights, and of the model's outputs.
    """
    terms = dict.fromkeys([*weights, TOTAL], 0.0)
    columns = [*loss_columns(weights, terms, "val"), *loss_columns(weights, terms, "train")]
    return [*(["val_mse", "val_psnr_db"] if "rgb" in outputs else []), *columns]


def metric_definition(metric: str, losses: Mapping[str, Any]) -> str:
    """Return what a metric's name stands for, given the [losses] of a manifest; empty where it has no such metric.

    Figures under one name can be compared where the definitions are the same.
    """
    if metric in DEFINITIONS:
        return DEFINITIONS[metric]
    part, _, term = metric.partition("_loss")
    layouts = {"val": "whole validation layouts", "train": "the training of an epoch"}.get(part, "")
    name = term.removeprefix("_").removesuffix("_weighted")
    if not layouts or (name and name not in losses):
        return ""
    if not name:
        terms = {loss: table for loss, table in losses.items() if table.get("weight") != 0}
        return f"weighted sum over {layouts} of {json.dumps(terms, sort_keys=True)}"
    table = dict(losses[name])
    if not term.endswith("_weighted"):
        table.pop("weight", None)
    return f"mean over {layouts} of {json.dumps(table, sort_keys=True)}"


def loss_columns(weights: Mapping[str, float], terms: Mapping[str, float], part: str) -> dict[str, float]:
    """Return the terms of losses with these weights as columns of the metrics."""
    columns = {f"{part}_loss": terms[TOTAL]}
    for name, weight in weights.items():
        columns[f"{part}_loss_{name}"] = terms[name]
        columns[f"{part}_loss_{name}_weighted"] = weight * terms[name]
    return columns
