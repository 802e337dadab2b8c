"""The heads that say something of every pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from imginav import DataSpec
from imginav_heads import RgbHead, SegmentationHead

SOFTMAX_TWICE_FLOOR = 1.461
"""The least cross-entropy of ten classes whose logits are probabilities: log(e + 9) - 1."""


def test_rgb_stays_between_minus_one_and_one(spec: DataSpec) -> None:
    torch.manual_seed(0)
    images = RgbHead().build(8, spec, 1)(1e4 * torch.randn(2, 8, 16, 24))
    assert images.shape == (2, 3, 16, 24)
    assert -1 <= images.min() < -0.5
    assert 0.5 < images.max() <= 1


def test_segmentation_gives_logits_and_no_probabilities(spec: DataSpec) -> None:
    torch.manual_seed(0)
    logits = SegmentationHead().build(8, spec, 1)(torch.randn(2, 8, 16, 24))
    assert logits.shape == (2, len(spec.palette), 16, 24)
    assert logits.min() < 0
    assert (logits.sum(dim=1) - 1).abs().mean() > 0.1


def test_segmentation_learns_below_the_floor_of_a_softmax_that_is_taken_twice(spec: DataSpec) -> None:
    torch.manual_seed(0)
    head = SegmentationHead().build(16, spec, 1)
    segmentation = torch.randint(0, 10, (1, 8, 8))
    features = F.one_hot(segmentation, 16).permute(0, 3, 1, 2).float()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(60):
        loss = F.cross_entropy(head(features), segmentation)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * SOFTMAX_TWICE_FLOOR
