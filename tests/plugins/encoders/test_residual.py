"""The residual encoder: its shapes, and that it sees a crop as it sees the whole."""

from __future__ import annotations

import pytest
import torch

from imginav import Encoder
from imginav.model.autoencoder import parameter_count
from imginav_encoders import ResidualEncoder
from imginav_encoders.residual import ChannelNorm, ResidualBlock
from imginav_tests.layers import conv, residual_block

TINY = ResidualEncoder(latent_channels=3, base_channels=8, downsampling_steps=3)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """The module with all its weights drawn, those as well that begin as zeros or ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def test_the_parameters_are_those_of_its_layers() -> None:
    levels = sum(residual_block(width) for width in (32, 64, 128)) + conv(32, 64, 2) + conv(64, 128, 2)
    expected = conv(3, 32, 4) + levels + 2 * 128 + conv(128, 16, 1)
    assert parameter_count(ResidualEncoder().build()) == expected
    deeper = ResidualEncoder(blocks=2).build()
    assert parameter_count(deeper) == expected + sum(residual_block(width) for width in (32, 64, 128))


def test_a_hidden_layer_keeps_what_a_linear_map_to_few_features_loses() -> None:
    wide = ResidualEncoder(hidden=96).build()
    linear = parameter_count(ResidualEncoder().build())
    assert parameter_count(wide) == linear - conv(3, 32, 4) + conv(3, 96, 4) + conv(96, 32, 1)
    assert wide(torch.zeros(1, 3, 32, 48)).shape == (1, 16, 2, 3)
    torch.manual_seed(0)
    # A change of a patch that the linear map does not see: 48 numbers, 32 features.
    first = ResidualEncoder().build().first
    assert isinstance(first, torch.nn.Conv2d)
    unseen = torch.linalg.svd(first.weight.flatten(1))[2][-1].view(1, 3, 4, 4)
    assert first(unseen).flatten(1).sub(first.bias).abs().max() < 1e-5
    changed, still = wide.first(unseen), wide.first(torch.zeros(1, 3, 4, 4))
    assert (changed - still).abs().max() > 1e-3
    # It is more than a linear map of fewer features through more of them.
    doubled = wide.first(2 * unseen)
    assert (doubled - still - 2 * (changed - still)).abs().max() > 1e-3


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize(("steps", "size"), [(1, (16, 6)), (2, (32, 20)), (3, (24, 40)), (4, (32, 48)), (6, (64, 128))])
def test_the_latent_is_smaller_by_two_to_the_steps(steps: int, size: tuple[int, int], variational: bool) -> None:
    config = ResidualEncoder(latent_channels=5, base_channels=2, downsampling_steps=steps, variational=variational)
    latent = config.build()(torch.zeros(2, 3, *size))
    assert latent.shape == (2, 10 if variational else 5, size[0] / 2**steps, size[1] / 2**steps)


def test_far_from_its_edges_a_crop_is_encoded_as_the_whole_is() -> None:
    encoder = randomised(TINY.build())
    whole = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole[:, :, :, :100] = 1.0  # an empty margin, which norms over the image would see
    crop = whole[:, :, 64:192, 64:192]
    with torch.no_grad():
        latents, cropped = encoder(whole)[:, :, 8:24, 8:24], encoder(crop)
    torch.testing.assert_close(cropped[:, :, 5:-5, 5:-5], latents[:, :, 5:-5, 5:-5])
    assert (cropped - latents).abs().max() > 1e-3  # near the edges it cannot be


def test_a_block_adds_nothing_at_first_and_learns_to() -> None:
    block_of_8 = ResidualBlock(8)
    features = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(block_of_8(features), features)
    block_of_8(features).square().sum().backward()
    last = block_of_8.added[-1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.weight.grad is not None
    assert last.weight.grad.abs().max() > 0


def test_the_norm_takes_each_position_for_itself() -> None:
    norm = ChannelNorm(16)
    features = 3 + 5 * torch.randn(2, 16, 4, 6)
    normed = norm(features)
    torch.testing.assert_close(normed.mean(dim=1), torch.zeros(2, 4, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(dim=1, unbiased=False), torch.ones(2, 4, 6), atol=1e-3, rtol=0)
    assert normed.shape == features.shape


def test_the_norm_scales_and_shifts_each_channel_by_weights_of_its_own() -> None:
    norm, plain = ChannelNorm(3), ChannelNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -3.0]))
        norm.bias.copy_(torch.tensor([0.5, 0.0, 4.0]))
    features = torch.randn(2, 3, 4, 5)
    expected = plain(features) * torch.tensor([1.0, 2.0, -3.0])[:, None, None]
    torch.testing.assert_close(norm(features), expected + torch.tensor([0.5, 0.0, 4.0])[:, None, None])


def test_the_log_variance_is_another_output_than_the_mean() -> None:
    config = ResidualEncoder(latent_channels=4, base_channels=8, downsampling_steps=2, variational=True)
    mean, log_variance = config.build()(torch.randn(1, 3, 16, 16)).chunk(2, dim=1)
    assert not torch.allclose(mean, log_variance)


def test_it_is_an_encoder_whose_factor_follows_its_steps() -> None:
    assert isinstance(TINY, Encoder)
    assert TINY.downsampling_factor == 8


@pytest.mark.parametrize("blocks", [-1, 33])
def test_a_number_of_blocks_that_no_network_has_is_refused(blocks: int) -> None:
    with pytest.raises(ValueError, match="expected a number from 0 to 32, found"):
        ResidualEncoder(blocks=blocks)
