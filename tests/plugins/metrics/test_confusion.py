"""Confusion matrices against counting by hand."""

from __future__ import annotations

import math

import pytest
import torch

from imginav_metrics.confusion import (
    accuracy,
    confusion_matrices,
    intersection_over_union,
    mean_of_known,
    recall,
    share,
)

TRUTH = torch.tensor([[[0, 0, 0], [1, 1, 255]], [[2, 2, 255], [255, 255, 255]]])
PREDICTED = torch.tensor([[[0, 1, 1], [1, 1, 0]], [[2, 0, 3], [0, 1, 2]]])


def test_what_was_taken_for_what_is_counted_for_each_layout() -> None:
    found = confusion_matrices(PREDICTED, TRUTH, 4)
    assert found[0].tolist() == [[1, 2, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found[1].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_it_counts_as_a_loop_does() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, predicted = (torch.randint(0, 5, (3, 9, 9), generator=generator) for _ in range(2))
    truth[:, 0] = 255
    expected = torch.zeros(3, 5, 5, dtype=torch.long)
    for number in range(3):
        for true, own in zip(truth[number].flatten().tolist(), predicted[number].flatten().tolist(), strict=True):
            if true != 255:
                expected[number, true, own] += 1
    assert torch.equal(confusion_matrices(predicted, truth, 5), expected)


def test_figures_by_hand() -> None:
    together = confusion_matrices(PREDICTED, TRUTH, 4).sum(dim=0)
    assert accuracy(together) == pytest.approx(4 / 7)
    assert recall(together)[:3].tolist() == pytest.approx([1 / 3, 1, 1 / 2])
    # Class 0: one of three and one that was taken for it; class 1: two and two that were; class 2: one of two.
    assert intersection_over_union(together)[:3].tolist() == pytest.approx([1 / 4, 2 / 4, 1 / 2])
    assert mean_of_known(intersection_over_union(together)) == pytest.approx((1 / 4 + 2 / 4 + 1 / 2) / 3)


def test_a_class_that_does_not_occur_has_no_figures_and_one_that_is_only_predicted_has_an_iou() -> None:
    found = confusion_matrices(torch.tensor([[1, 0]]), torch.tensor([[0, 0]]), 3)[0]
    assert recall(found)[0] == 0.5
    assert recall(found)[1:].isnan().all()
    assert intersection_over_union(found)[:2].tolist() == [0.5, 0]
    assert intersection_over_union(found)[2].isnan()


def test_of_nothing_there_is_no_share() -> None:
    nothing = torch.zeros(2, 2, dtype=torch.long)
    assert math.isnan(accuracy(nothing))
    assert math.isnan(mean_of_known(recall(nothing)))
    assert math.isnan(share(torch.tensor(0), torch.tensor(0)))
