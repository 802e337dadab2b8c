"""Metrics of the heads for segmentation and classification against values computed by hand and torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from attrs import evolve
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from imginav import CannotMeasure, DataSpec, Metric, UserError
from imginav_metrics import Classification, Segmentation


def test_a_segmentation_by_hand(spec: DataSpec) -> None:
    truth = torch.tensor([[[8, 8, 9, 9]], [[9, 9, 255, 0]]])
    predicted = torch.tensor([[[8, 9, 9, 9]], [[9, 9, 9, 8]]])
    logits = F.one_hot(predicted, 10).permute(0, 3, 1, 2).float()
    measurement = Segmentation().build(spec, ["segmentation"], 4)
    rows = measurement.rows({"segmentation": logits}, {"segmentation": truth})
    found = measurement.figures(rows)
    assert found["segmentation_accuracy"] == pytest.approx(5 / 7)
    # Wall 1 of 3, background 4 of 5, bed 0 of 1.
    assert found["segmentation_mean_iou"] == pytest.approx((1 / 3 + 4 / 5 + 0) / 3)
    classes = measurement.per_class(rows)
    assert classes["segmentation_iou"]["wall"] == pytest.approx(1 / 3)
    assert classes["segmentation_recall"]["wall"] == pytest.approx(1 / 2)
    assert math.isnan(classes["segmentation_recall"]["sofa"])
    assert measurement.confusion(rows) == {
        "bed": {"wall": 1},
        "wall": {"wall": 1, "background": 1},
        "background": {"background": 4},
    }
    assert list(classes["segmentation_iou"]) == list(spec.palette.names)
    only_first = {name: kept[:1] for name, kept in rows.items()}
    assert measurement.figures(only_first)["segmentation_mean_iou"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_segmentation_as_torchmetrics_has_it(spec: DataSpec) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 10, 16, 16, generator=generator)
    truth = torch.randint(0, 10, (3, 16, 16), generator=generator)
    truth[:, :2] = 255
    measurement = Segmentation().build(spec, ["segmentation"], 16)
    found = measurement.figures(measurement.rows({"segmentation": logits}, {"segmentation": truth}))
    iou = multiclass_jaccard_index(logits, truth, 10, ignore_index=255)
    right = multiclass_accuracy(logits, truth, 10, average="micro", ignore_index=255)
    assert found["segmentation_mean_iou"] == pytest.approx(float(iou), rel=1e-5)
    assert found["segmentation_accuracy"] == pytest.approx(float(right), rel=1e-5)


def test_types_by_hand(spec: DataSpec) -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [1.0, 0.0], [0.0, 9.0]])
    labels = torch.tensor([0, 0, 0, 1, 255])
    measurement = Classification().build(spec, ["classification"], 4)
    rows = measurement.rows({"classification": logits}, {"label": labels})
    found = measurement.figures(rows)
    assert found["classification_accuracy"] == pytest.approx(2 / 4)
    assert found["classification_balanced_accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    assert measurement.confusion(rows) == {"room": {"room": 2, "scene": 1}, "scene": {"room": 1}}
    rooms = {name: kept[:3] for name, kept in rows.items()}
    assert measurement.figures(rooms)["classification_balanced_accuracy"] == pytest.approx(2 / 3)
    unknown = {name: kept[4:] for name, kept in rows.items()}
    assert all(math.isnan(figure) for figure in measurement.figures(unknown).values())


def test_a_single_layout_is_measured(spec: DataSpec) -> None:
    measurement = Classification().build(spec, ["classification"], 4)
    rows = measurement.rows({"classification": torch.tensor([[0.0, 1.0]])}, {"label": torch.tensor([1])})
    assert measurement.figures(rows)["classification_accuracy"] == 1


def test_another_head_can_be_named(spec: DataSpec) -> None:
    measurement = Classification(output="kind").build(spec, ["kind"], 4)
    rows = measurement.rows({"kind": torch.tensor([[0.0, 1.0]])}, {"label": torch.tensor([0])})
    assert measurement.figures(rows)["classification_accuracy"] == 0
    assert all("the head kind" in text for text in Classification(output="kind").definitions.values())


@pytest.mark.parametrize(
    ("metric", "target"), [(Segmentation(), "segmentation"), (Classification(), "label")], ids=["pixels", "types"]
)
def test_without_the_head_or_its_target_it_cannot_be_measured(spec: DataSpec, metric: Metric, target: str) -> None:
    with pytest.raises(CannotMeasure, match=r"the autoencoder has no output (segmentation|classification)$"):
        metric.build(spec, ["rgb"], 4)
    less = evolve(spec, targets=tuple(name for name in spec.targets if name != target))
    with pytest.raises(CannotMeasure, match=f"the data set has no {target} to compare with"):
        metric.build(less, ["segmentation", "classification"], 4)


def test_logits_of_other_classes_are_refused(spec: DataSpec) -> None:
    measurement = Segmentation(output="rgb").build(spec, ["rgb"], 4)
    message = r"the output 'rgb' cannot be measured: expected logits of 10 classes .*, found the shape \(1, 3, 4, 4\);"
    with pytest.raises(UserError, match=message):
        measurement.rows({"rgb": torch.zeros(1, 3, 4, 4)}, {"segmentation": torch.zeros(1, 4, 4, dtype=torch.long)})
