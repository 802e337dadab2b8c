"""The price on the size of an output."""

from __future__ import annotations

import pytest
import torch

from imginav_losses import MeanSquare


def test_it_is_the_mean_square_over_all_elements() -> None:
    latent = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]], [[[0.0, 0.0], [0.0, 2.0]]]])
    assert MeanSquare()({"latent": latent}, {}).item() == pytest.approx(18 / 8)


def test_its_gradient_pulls_every_element_to_zero() -> None:
    latent = torch.tensor([2.0, -4.0], requires_grad=True)
    MeanSquare()({"latent": latent}, {}).backward()
    assert latent.grad is not None
    assert latent.grad.tolist() == [2.0, -4.0]


def test_it_reads_the_output_that_it_is_told_and_no_target() -> None:
    loss = MeanSquare(output="rgb")
    assert tuple(loss.required_outputs()) == ("rgb",)
    assert tuple(loss.required_targets()) == ()
    assert loss({"rgb": torch.ones(1), "latent": torch.zeros(1)}, {}).item() == 1.0
