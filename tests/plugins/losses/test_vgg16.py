"""VGG16's layers; its weights and what is wrong with them are tested with the perceptual loss, and in LPIPS."""

from __future__ import annotations

import pytest
import torch

from imginav_losses import vgg16
from imginav_losses.vgg16 import LAYERS, VGG16Features

CONVOLUTIONS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
"""Their indices in torchvision's `features`."""


@pytest.fixture(autouse=True)
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg16, "_load", lambda features, path, owner: features.to_empty(device="cpu"))


def test_the_layers_have_the_indices_of_torchvision() -> None:
    network = VGG16Features(LAYERS, None, "a test")
    assert [int(name.split(".")[0]) for name in network.features.state_dict() if "weight" in name] == CONVOLUTIONS
    assert sum(parameter.numel() for parameter in network.parameters()) == 14_714_688


def test_features_come_from_the_shallowest_layer_to_the_deepest() -> None:
    network = VGG16Features(["relu5_3", "relu1_2", "relu4_3", "relu3_3", "relu2_2"], None, "a test")
    shapes = [tuple(features.shape) for features in network(torch.zeros(1, 3, 32, 32))]
    assert shapes == [(1, 64, 32, 32), (1, 128, 16, 16), (1, 256, 8, 8), (1, 512, 4, 4), (1, 512, 2, 2)]


def test_no_layer_is_built_beyond_the_deepest_one() -> None:
    assert len(VGG16Features(["relu2_2"], None, "a test").features) == 9
