"""The conv encoder against the original's layers."""

from __future__ import annotations

import pytest
import torch

from imginav.model.autoencoder import parameter_count
from imginav_encoders import ConvEncoder
from imginav_tests.layers import conv, layers, norm


def level(in_channels: int, channels: int) -> int:
    return conv(in_channels, channels, 3) + norm(channels) + conv(channels, channels, 4) + norm(channels)


def test_the_layers_are_those_of_the_original() -> None:
    encoder = ConvEncoder(latent_channels=4, base_channels=32, downsampling_steps=2).build()
    assert layers(encoder) == [
        ("conv", 3, 32, 3, 1, 1), ("norm", 8, 32), ("SiLU",),
        ("conv", 32, 32, 4, 2, 1), ("norm", 8, 32), ("SiLU",),
        ("conv", 32, 64, 3, 1, 1), ("norm", 8, 64), ("SiLU",),
        ("conv", 64, 64, 4, 2, 1), ("norm", 8, 64), ("SiLU",),
        ("conv", 64, 64, 3, 1, 1), ("norm", 8, 64), ("SiLU",),
        ("conv", 64, 4, 1, 1, 0),
    ]  # fmt: skip


def test_the_parameters_of_the_default_encoder_are_those_of_the_original() -> None:
    levels = level(3, 32) + level(32, 64) + level(64, 128) + level(128, 256)
    last = conv(256, 256, 3) + norm(256)
    expected = levels + last + conv(256, 16, 1)
    assert expected == 2_378_160
    assert parameter_count(ConvEncoder().build()) == expected


def test_a_variational_encoder_has_one_more_convolution_to_the_latent() -> None:
    assert parameter_count(ConvEncoder(variational=True).build()) == 2_378_160 + conv(256, 16, 1)


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize(("steps", "size"), [(1, (16, 16)), (2, (32, 16)), (3, (24, 40)), (4, (32, 32))])
def test_the_latent_is_smaller_by_two_to_the_steps(steps: int, size: tuple[int, int], variational: bool) -> None:
    config = ConvEncoder(latent_channels=3, base_channels=8, downsampling_steps=steps, variational=variational)
    latent = config.build()(torch.zeros(2, 3, *size))
    assert latent.shape == (2, 6 if variational else 3, size[0] / 2**steps, size[1] / 2**steps)
    assert config.downsampling_factor == 2**steps


def test_mean_and_log_variance_come_from_convolutions_of_their_own() -> None:
    encoder = ConvEncoder(latent_channels=2, base_channels=8, downsampling_steps=1, variational=True).build()
    images = torch.randn(1, 3, 16, 16)
    mean, log_variance = encoder(images).chunk(2, dim=1)
    with torch.no_grad():
        encoder.to_latent[1].bias.add_(1.0)
    torch.testing.assert_close(encoder(images), torch.cat([mean, log_variance + 1.0], dim=1))


def test_every_parameter_is_trained() -> None:
    encoder = ConvEncoder(latent_channels=2, base_channels=8, downsampling_steps=2, variational=True).build()
    encoder(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("base_channels", [4, 12, 33])
def test_a_width_that_the_norm_cannot_group_is_refused(base_channels: int) -> None:
    with pytest.raises(ValueError, match=rf"expected base_channels to be a multiple of 8, .* found {base_channels}"):
        ConvEncoder(base_channels=base_channels)
