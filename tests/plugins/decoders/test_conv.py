"""The conv decoder against the original's layers."""

from __future__ import annotations

import pytest
import torch

from imginav import DataSpec, UserError
from imginav.model.autoencoder import build_autoencoder, parameter_count
from imginav.seeds import Seeds
from imginav_decoders import ConvDecoder
from imginav_encoders import ConvEncoder
from imginav_heads import ClassificationHead, RgbHead, SegmentationHead
from imginav_tests.layers import conv, layers, norm

TINY = ConvEncoder(latent_channels=3, base_channels=16, downsampling_steps=2)


def pixel_head(channels: int, outputs: int) -> int:
    return conv(channels, channels, 3) + norm(channels) + conv(channels, outputs, 3)


def test_the_layers_are_those_of_the_original(spec: DataSpec) -> None:
    encoder = ConvEncoder(latent_channels=4, base_channels=32, downsampling_steps=2)
    decoder = ConvDecoder(heads={"rgb": RgbHead()}).build(encoder, spec)
    assert layers(decoder) == [
        ("conv", 4, 64, 3, 1, 1), ("norm", 8, 64), ("SiLU",),
        ("transposed", 64, 32, 4, 2, 1), ("norm", 8, 32), ("SiLU",),
        ("transposed", 32, 16, 4, 2, 1), ("norm", 8, 16), ("SiLU",),
        ("conv", 16, 16, 3, 1, 1), ("norm", 8, 16), ("SiLU",), ("conv", 16, 3, 3, 1, 1), ("Tanh",),
    ]  # fmt: skip


def test_the_parameters_of_the_default_decoder_are_those_of_the_original(spec: DataSpec) -> None:
    first = conv(16, 256, 3) + norm(256)
    levels = sum(conv(width, width // 2, 4) + norm(width // 2) for width in (256, 128, 64, 32))
    expected = first + levels + pixel_head(16, 3) + pixel_head(16, 10)
    assert expected == 741_261
    heads = {"rgb": RgbHead(), "segmentation": SegmentationHead()}
    assert parameter_count(ConvDecoder(heads=heads).build(ConvEncoder(), spec)) == expected
    with_labels = ConvDecoder(heads={**heads, "classification": ClassificationHead()}).build(ConvEncoder(), spec)
    assert parameter_count(with_labels) == expected + 16 * len(spec.labels) + len(spec.labels)


@pytest.mark.parametrize(("steps", "side"), [(1, 8), (2, 4), (3, 2), (4, 1)])
def test_the_outputs_are_larger_by_two_to_the_steps(spec: DataSpec, steps: int, side: int) -> None:
    encoder = ConvEncoder(latent_channels=2, base_channels=16, downsampling_steps=steps)
    heads = {"rgb": RgbHead(), "classes": SegmentationHead(), "layout_type": ClassificationHead()}
    outputs = ConvDecoder(heads=heads).build(encoder, spec)(torch.randn(2, 2, side, 2 * side))
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "rgb": (2, 3, 16, 32),
        "classes": (2, 10, 16, 32),
        "layout_type": (2, 2),
    }


def test_the_decoder_takes_what_the_encoder_gives(spec: DataSpec) -> None:
    for encoder in (TINY, ConvEncoder(latent_channels=5, base_channels=32, downsampling_steps=3)):
        images = torch.randn(1, 3, 32, 32)
        decoder = ConvDecoder(heads={"rgb": RgbHead()}).build(encoder, spec)
        assert decoder(encoder.build()(images))["rgb"].shape == images.shape


def test_the_width_can_differ_from_the_encoders(spec: DataSpec) -> None:
    wide = ConvDecoder(base_channels=64, heads={"rgb": RgbHead()}).build(TINY, spec)
    assert layers(wide)[0] == ("conv", 3, 128, 3, 1, 1)


@pytest.mark.parametrize("base_channels", [8, 24, 40])
def test_a_width_that_the_last_norm_cannot_group_is_refused_with_the_settings_to_change(
    spec: DataSpec, base_channels: int
) -> None:
    encoder = ConvEncoder(base_channels=base_channels, downsampling_steps=1)
    message = (
        rf"needs base_channels to be a multiple of 16, found {base_channels}; "
        "set encoder.base_channels or decoder.base_channels"
    )
    with pytest.raises(UserError, match=message):
        build_autoencoder(encoder, ConvDecoder(heads={"rgb": RgbHead()}), spec, Seeds(0))
    build_autoencoder(encoder, ConvDecoder(base_channels=16, heads={"rgb": RgbHead()}), spec, Seeds(0))


def test_every_parameter_is_trained(spec: DataSpec) -> None:
    heads = {"rgb": RgbHead(), "segmentation": SegmentationHead(), "layout_type": ClassificationHead()}
    decoder = ConvDecoder(heads=heads).build(TINY, spec)
    outputs = decoder(torch.randn(2, 3, 4, 4))
    sum(output.square().sum() for output in outputs.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


@pytest.mark.parametrize("name", ["type", "train"])
def test_a_head_whose_name_torch_cannot_keep_is_refused(spec: DataSpec, name: str) -> None:
    with pytest.raises(UserError, match=rf"decoder.heads.{name}: torch cannot keep a module by this name; choose"):
        build_autoencoder(TINY, ConvDecoder(heads={name: RgbHead()}), spec, Seeds(0))
