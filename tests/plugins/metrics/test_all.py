"""What is true of every metric that comes with imginav."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from imginav import DataSpec, Measurement, Metric
from imginav.plugin.registry import Registry
from imginav.training.metric_definitions import figure_definitions
from imginav_losses.vgg16 import VGG16Features
from imginav_metrics import imginav_components

Draw = Callable[[Tensor], Tensor]
Batch = tuple[dict[str, Tensor], dict[str, Tensor]]

OUTPUTS = ("rgb", "segmentation", "classification")


def installed() -> Iterator[tuple[str, Metric]]:
    registry = Registry()
    imginav_components(registry)
    for registration in registry:
        metric = registration.component()
        assert isinstance(metric, Metric)
        yield registration.name, metric


METRICS = dict(installed())

every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


@pytest.fixture
def build(spec: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Metric], Measurement]:
    """Set a metric up; where it takes VGG16's weights, with some that are all the same."""

    def build(metric: Metric) -> Measurement:
        if "weights" in type(metric).__annotations__:
            monkeypatch.setattr("imginav_losses.vgg16._load", fill)
        return metric.build(spec, OUTPUTS, 192)

    return build


def fill(features: VGG16Features, path: Path, owner: str) -> None:
    features.to_empty(device="cpu")
    for parameter in features.parameters():
        torch.nn.init.constant_(parameter, 0.01)


@pytest.fixture
def batch(draw: Draw) -> Batch:
    """Return outputs and batch of three layouts of tiles, with noise on them."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 10, (3, 24, 24), generator=generator)
    truth = classes.repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = draw(truth)
    outputs = {
        "rgb": (images + 0.3 * torch.randn(images.shape, generator=generator)).clamp(-1, 1),
        "segmentation": torch.randn(3, 10, 192, 192, generator=generator),
        "classification": torch.randn(3, 2, generator=generator),
    }
    return outputs, {"rgb": images, "segmentation": truth, "label": torch.tensor([0, 1, 0])}


def part(values: Mapping[str, Tensor], places: list[int]) -> dict[str, Tensor]:
    return {key: value[places] for key, value in values.items()}


@every_metric
def test_every_figure_is_defined_and_the_other_way_round(
    metric: Metric, build: Callable[[Metric], Measurement], batch: Batch
) -> None:
    measurement = build(metric)
    with torch.no_grad():
        figures = measurement.figures(measurement.rows(*batch))
    assert list(figures) == list(metric.definitions)
    assert all(math.isfinite(figure) for figure in figures.values())
    assert set(metric.more_is_better) <= set(figures)


@every_metric
def test_the_rows_of_layouts_do_not_depend_on_their_batch(
    metric: Metric, build: Callable[[Metric], Measurement], batch: Batch
) -> None:
    measurement = build(metric)
    outputs, truth = batch
    with torch.no_grad():
        together = measurement.rows(outputs, truth)
        alone = [measurement.rows(part(outputs, [place]), part(truth, [place])) for place in range(3)]
    for key, rows in together.items():
        assert len(rows) == 3
        torch.testing.assert_close(rows, torch.cat([own[key] for own in alone]), rtol=1e-4, atol=1e-7)


@every_metric
def test_a_perfect_reconstruction_is_not_beaten(
    metric: Metric, build: Callable[[Metric], Measurement], batch: Batch
) -> None:
    measurement = build(metric)
    outputs, truth = batch
    perfect = {
        "rgb": truth["rgb"].clone(),
        "segmentation": torch.nn.functional.one_hot(truth["segmentation"], 10).permute(0, 3, 1, 2).float(),
        "classification": torch.nn.functional.one_hot(truth["label"], 2).float(),
    }
    with torch.no_grad():
        best = measurement.figures(measurement.rows(perfect, truth))
        found = measurement.figures(measurement.rows(outputs, truth))
    for name, figure in found.items():
        assert best[name] >= figure if name in metric.more_is_better else best[name] <= figure, name


def test_no_two_measure_the_same_figure() -> None:
    assert {"val_mean_iou", "val_wall_recall", "val_ssim"} <= set(figure_definitions(METRICS))
