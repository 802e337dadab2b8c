"""Confusion matrices of layouts, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imginav.plugin import UNMATCHED


def confusion_matrices(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return how often each true class (rows) was taken for each class (columns), for each layout (N, K, K).

    Both are class indices (N, …); where the truth is `UNMATCHED`, nothing is counted.
    """
    # Imported late: it takes a second or two, and most commands measure nothing.
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    # One more class for what is not known, cut off again: several times faster than to look for such pixels first.
    known = torch.where(truth == UNMATCHED, classes, truth)
    pairs = zip(predicted, known, strict=True)
    counted = [multiclass_confusion_matrix(own, true, classes + 1, validate_args=False) for own, true in pairs]
    return torch.stack(counted)[:, :classes, :classes]


def named_counts(confusion: Tensor, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the counts of a matrix (K, K) that are not 0, by the name of the true class and that of the other."""
    rows = zip(names, confusion.tolist(), strict=True)
    found = {true: {name: count for name, count in zip(names, row, strict=True) if count} for true, row in rows}
    return {true: taken for true, taken in found.items() if taken}


def accuracy(confusion: Tensor) -> float:
    """Return the share of a matrix (K, K) that is right; NaN where it counts nothing."""
    return share(confusion.diagonal().sum(), confusion.sum())


def recall(confusion: Tensor) -> Tensor:
    """Return the share of each true class that is right (K,); NaN for a class that does not occur in the truth."""
    return confusion.diagonal().double() / confusion.sum(dim=1)


def intersection_over_union(confusion: Tensor) -> Tensor:
    """Return what truth and prediction share of each class over what either has of it (K,).

    NaN for a class that occurs in neither. (Jaccard, 1912; Everingham et al., "The Pascal Visual Object Classes
    Challenge", 2015.)
    """
    both = confusion.diagonal()
    return both.double() / (confusion.sum(dim=0) + confusion.sum(dim=1) - both)


def mean_of_known(values: Tensor) -> float:
    """Return the mean of those values that are not NaN; NaN where all are."""
    return float(values.nanmean())


def share(part: Tensor, whole: Tensor) -> float:
    """Return a count over another; NaN where that is 0."""
    return float(part.double() / whole)
