"""The head that says something of the whole layout."""

from __future__ import annotations

import attrs
import torch
from torch import nn

from imginav import DataSpec
from imginav.model.autoencoder import parameter_count
from imginav_heads import ClassificationHead


def test_it_gives_a_logit_for_each_type_of_layout(spec: DataSpec) -> None:
    of_three = attrs.evolve(spec, labels=("room", "flat", "house"))
    head = ClassificationHead().build(16, of_three, 1)
    logits = head(torch.randn(5, 16, 6, 4))
    assert logits.shape == (5, 3)
    assert (logits.sum(dim=1) - 1).abs().mean() > 0.01
    assert parameter_count(head) == 16 * 3 + 3


def test_it_sees_the_mean_of_the_features_alone(spec: DataSpec) -> None:
    head = ClassificationHead().build(8, spec, 1)
    features = torch.randn(2, 8, 4, 4)
    linear = next(layer for layer in head.modules() if isinstance(layer, nn.Linear))
    torch.testing.assert_close(head(features), linear(features.mean(dim=(2, 3))))
    torch.testing.assert_close(head(features), head(features.flip(2).transpose(2, 3)))
