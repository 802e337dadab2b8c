"""Encoder and decoder as one module."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from imginav import UserError
from imginav.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


def test_a_variational_latent_is_the_mean_without_noise_and_drawn_with_it(make_trainer: MakeTrainer) -> None:
    model = make_trainer("encoder.variational=true").model
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    outputs = model(images)
    assert torch.equal(outputs["latent"], outputs["mean"])
    assert torch.equal(model.encode(images), outputs["mean"])
    noise = torch.Generator().manual_seed(1)
    drawn = model(images, noise)
    expected = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn["latent"], outputs["mean"] + expected * torch.exp(outputs["log_variance"] / 2))
    assert set(outputs) == set(model.output_names) == {"rgb", "segmentation", "latent", "mean", "log_variance"}


def test_a_deterministic_latent_needs_no_noise(make_trainer: MakeTrainer) -> None:
    model = make_trainer().model
    images = torch.rand(1, 3, 32, 32)
    outputs = model(images, torch.Generator())
    assert set(outputs) == set(model.output_names) == {"rgb", "segmentation", "latent"}
    torch.testing.assert_close(model.decode(model.encode(images))["rgb"], outputs["rgb"])


def test_the_variance_stays_finite(make_trainer: MakeTrainer) -> None:
    model = make_trainer("encoder.variational=true").model
    with torch.no_grad():
        model.encoder.get_parameter("to_latent.1.bias").fill_(1e6)
    outputs = model(torch.zeros(1, 3, 32, 32), torch.Generator())
    assert outputs["log_variance"].max() == 20
    assert all(output.isfinite().all() for output in outputs.values())


def test_sizes_that_cannot_be_halved_so_often_are_refused_at_the_start(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"data.image_size = 30 cannot be halved 2 times .*multiple of 4, such as 28"):
        make_trainer("data.image_size=30")
    with pytest.raises(UserError, match=r"data.crop = 18 cannot be halved 2 times"):
        make_trainer("data.crop=18")


def test_names_of_heads_cannot_be_those_of_latents(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"decoder.heads.latent: the name 'latent' is the encoder's"):
        make_trainer("decoder.heads.latent={type='rgb'}")


def test_a_decoder_without_heads_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"decoder.heads is empty; name at least one"):
        make_trainer("decoder.heads.rgb=false", "decoder.heads.segmentation=false")


def test_a_width_that_does_not_fit_is_refused_before_training(make_trainer: MakeTrainer) -> None:
    with pytest.raises(
        UserError, match=r"cannot be built: the conv decoder needs base_channels to be a multiple of 16"
    ):
        make_trainer("encoder.base_channels=24")
