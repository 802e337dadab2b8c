"""Losses of pixels against values computed by hand."""

from __future__ import annotations

import pytest
import torch

from imginav import Loss, UserError
from imginav_losses import L1, MSE


@pytest.mark.parametrize(("loss", "expected"), [(MSE(), (0.25 + 1.0 + 0.0 + 4.0) / 4), (L1(), (0.5 + 1 + 0 + 2) / 4)])
def test_the_mean_is_taken_over_all_elements(loss: Loss, expected: float) -> None:
    outputs = {"rgb": torch.tensor([[0.5, -1.0], [0.25, 1.0]])}
    batch = {"rgb": torch.tensor([[0.0, 0.0], [0.25, -1.0]])}
    assert loss(outputs, batch).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [MSE(), L1()])
def test_equal_images_cost_nothing(loss: Loss) -> None:
    images = torch.rand(2, 3, 4, 4)
    assert loss({"rgb": images}, {"rgb": images.clone()}).item() == 0


@pytest.mark.parametrize("loss", [MSE(output="shade"), L1(output="shade")])
def test_another_output_can_be_named(loss: Loss) -> None:
    assert (loss.required_outputs(), loss.required_targets()) == (("shade",), ("rgb",))
    assert loss({"rgb": torch.zeros(2), "shade": torch.ones(2)}, {"rgb": torch.zeros(2)}).item() == 1


@pytest.mark.parametrize(("loss", "name"), [(MSE(output="latent"), "MSE"), (L1(output="latent"), "L1")])
def test_shapes_that_differ_are_refused_and_not_stretched(loss: Loss, name: str) -> None:
    outputs, batch = {"latent": torch.zeros(2, 1, 4, 4)}, {"rgb": torch.zeros(2, 3, 4, 4)}
    message = rf"{name} loss: output 'latent' has shape \(2, 1, 4, 4\), target 'rgb' has \(2, 3, 4, 4\); compare"
    with pytest.raises(UserError, match=message):
        loss(outputs, batch)
