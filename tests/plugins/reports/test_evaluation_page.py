"""What docs/evaluation.md says of `evaluation.json` is all that there is in it."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import torch

from imginav import DataSpec, Measurement, Metric
from imginav.manifest import tables
from imginav.plugin.registry import installed
from imginav.runs.evaluation_result import VERSION, EvaluationResult
from imginav.training.metric_definitions import PART
from imginav_datasets.classes import PALETTE

PAGE = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()

SPEC = DataSpec(palette=PALETTE, labels=("room", "scene"), targets=("rgb", "segmentation", "label"))
OUTPUTS = {
    "rgb": torch.zeros(1, 3, 16, 16),
    "segmentation": torch.zeros(1, 10, 16, 16),
    "classification": torch.zeros(1, 2),
}
BATCH = {
    "rgb": torch.zeros(1, 3, 16, 16),
    "segmentation": torch.zeros(1, 16, 16, dtype=torch.long),
    "label": torch.zeros(1, dtype=torch.long),
}

METRICS = {
    r.name: r.component() for r in installed() if r.kind == "metric" and r.component.__module__.startswith("imginav_")
}


def keys(cls: type) -> Iterator[tuple[str, str]]:
    """Return the class and the name of every key of a class, and of the classes within it."""
    for name, hint in typing.get_type_hints(cls).items():
        if name not in attrs.fields_dict(cls):
            continue
        yield cls.__name__, name
        for inner in (hint, *typing.get_args(hint)):
            if attrs.has(inner):
                yield from keys(inner)


def test_the_classes_within_are_looked_into() -> None:
    assert {cls for cls, _ in keys(EvaluationResult)} == {
        "EvaluationResult", "Reconstruction", "RankedLayout", "Latent", "Channel", "NoiseLevel", "Interpolation",
        "Pair", "Size", "Latency", "ProbeMetric",
    }  # fmt: skip


@pytest.mark.parametrize(("cls", "name"), sorted(set(keys(EvaluationResult))))
def test_every_key_is_documented(cls: str, name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_version_of_the_file_is_documented() -> None:
    assert f"`format` is the version of the layout, now {VERSION[1]}." in PAGE


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_every_figure_is_documented_and_on_which_side_the_better_ones_lie(metric: Metric) -> None:
    for figure in metric.definitions:
        better = "more" if figure in metric.more_is_better else "less"
        assert re.search(rf"^\| `{figure}` \| [^|]+ \| {better} \| ", PAGE, re.MULTILINE), figure


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"lpips"}))  # which has no figures of classes, and needs weights
def test_every_figure_of_a_class_is_documented(name: str) -> None:
    measurement = METRICS[name].build(SPEC, list(OUTPUTS), 16)
    assert isinstance(measurement, Measurement)
    assert [
        figure for figure in measurement.per_class(measurement.rows(OUTPUTS, BATCH)) if f"`{figure}`" not in PAGE
    ] == []


def test_no_figure_is_documented_that_there_is_none_of() -> None:
    figures = {figure for metric in METRICS.values() for figure in metric.definitions}
    section = PAGE.partition("\n## Figures")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == figures
    assert f"begins with `{PART}`" in section


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(tables.Evaluation)])
def test_every_key_of_a_manifest_is_documented(name: str) -> None:
    assert f"| `{name}` |" in PAGE
