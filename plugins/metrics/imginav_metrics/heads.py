"""What the heads that are no pixels say: the class of each pixel, and the type of the layout."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from attrs import frozen
from torch import Tensor

from imginav import CannotMeasure, DataSpec, Measurement, Metric, UserError
from imginav_metrics.confusion import (
    accuracy,
    confusion_matrices,
    intersection_over_union,
    mean_of_known,
    named_counts,
    recall,
)


@frozen(kw_only=True)
class Segmentation(Metric):
    """Accuracy and IoU of a head that gives the class of every pixel."""

    output: str = "segmentation"  # the decoder's head: logits (N, classes, H, W)

    @property
    def definitions(self) -> Mapping[str, str]:
        how = f"by the largest logit of the head {self.output}, pixels whose truth is no class left out; 0 to 1"
        return {
            "segmentation_accuracy": f"share of pixels whose class is right, {how}",
            "segmentation_mean_iou": "intersection over union of the pixels of a class (Jaccard, 1912), of all layouts "
            f"together, the mean over the classes that occur in truth or prediction, {how}",
        }

    @property
    def more_is_better(self) -> Collection[str]:
        return tuple(self.definitions)

    def build(self, spec: DataSpec, outputs: Collection[str], image_size: int) -> Measurement:
        _refuse_missing(self.output, outputs, "segmentation", spec)
        return SegmentationRows(self.output, spec.palette.names)


class SegmentationRows(Measurement):
    """Keeps the confusion matrix of each layout's pixels."""

    def __init__(self, output: str, names: tuple[str, ...]) -> None:
        self._output = output
        self._names = names

    def rows(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        predicted = _strongest(self._output, outputs, len(self._names))
        return {"confusion": confusion_matrices(predicted, batch["segmentation"], len(self._names))}

    def figures(self, rows: Mapping[str, Tensor]) -> Mapping[str, float]:
        confusion = rows["confusion"].sum(dim=0)
        return {
            "segmentation_accuracy": accuracy(confusion),
            "segmentation_mean_iou": mean_of_known(intersection_over_union(confusion)),
        }

    def per_class(self, rows: Mapping[str, Tensor]) -> Mapping[str, Mapping[str, float]]:
        confusion = rows["confusion"].sum(dim=0)
        figures = {"segmentation_iou": intersection_over_union(confusion), "segmentation_recall": recall(confusion)}
        return {name: dict(zip(self._names, values.tolist(), strict=True)) for name, values in figures.items()}

    def confusion(self, rows: Mapping[str, Tensor]) -> Mapping[str, Mapping[str, int]]:
        return named_counts(rows["confusion"].sum(dim=0), self._names)


@frozen(kw_only=True)
class Classification(Metric):
    """Accuracy of a head that gives the type of the layout, room or scene."""

    output: str = "classification"  # the decoder's head: logits (N, types)

    @property
    def definitions(self) -> Mapping[str, str]:
        how = f"by the largest logit of the head {self.output}, layouts of no known type left out; 0 to 1"
        return {
            "classification_accuracy": f"share of layouts whose type is right, {how}",
            "classification_balanced_accuracy": "share of the layouts of a type whose type is right, the mean over the "
            f"types that occur (Brodersen et al., 2010), {how}",
        }

    @property
    def more_is_better(self) -> Collection[str]:
        return tuple(self.definitions)

    def build(self, spec: DataSpec, outputs: Collection[str], image_size: int) -> Measurement:
        _refuse_missing(self.output, outputs, "label", spec)
        return ClassificationRows(self.output, spec.labels)


class ClassificationRows(Measurement):
    """Keeps the confusion matrix of each layout's type: a single 1, or none where the type is not known."""

    def __init__(self, output: str, types: Sequence[str]) -> None:
        self._output = output
        self._types = types

    def rows(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        predicted = _strongest(self._output, outputs, len(self._types))
        return {"confusion": confusion_matrices(predicted[:, None], batch["label"][:, None], len(self._types))}

    def figures(self, rows: Mapping[str, Tensor]) -> Mapping[str, float]:
        confusion = rows["confusion"].sum(dim=0)
        return {
            "classification_accuracy": accuracy(confusion),
            "classification_balanced_accuracy": mean_of_known(recall(confusion)),
        }

    def confusion(self, rows: Mapping[str, Tensor]) -> Mapping[str, Mapping[str, int]]:
        return named_counts(rows["confusion"].sum(dim=0), self._types)


def _refuse_missing(output: str, outputs: Collection[str], target: str, spec: DataSpec) -> None:
    if output not in outputs:
        raise CannotMeasure(f"the autoencoder has no output {output}")
    if target not in spec.targets:
        raise CannotMeasure(f"the data set has no {target} to compare with")


def _strongest(output: str, outputs: Mapping[str, Tensor], classes: int) -> Tensor:
    """Return the index of the largest of the logits (N, K, …) as (N, …); raises UserError where K is another number."""
    logits = outputs[output]
    if logits.dim() < 2 or logits.shape[1] != classes:
        raise UserError(
            f"the output {output!r} cannot be measured: expected logits of {classes} classes in its second dimension, "
            f"found the shape {tuple(logits.shape)}; name another head with the metric's `output`, or switch it off"
        )
    return logits.argmax(dim=1)
