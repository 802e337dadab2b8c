"""The residual decoder: its shapes, its heads, its weights in the latent's own words."""

from __future__ import annotations

import pytest
import torch

from imginav import DataSpec, UserError
from imginav.model.autoencoder import build_autoencoder, parameter_count
from imginav.seeds import Seeds
from imginav_decoders import ResidualDecoder
from imginav_encoders import ConvEncoder, ResidualEncoder
from imginav_heads import ClassificationHead, PaletteHead, RgbHead, SegmentationHead
from imginav_tests.layers import conv, residual_block


def test_the_parameters_are_those_of_its_layers(spec: DataSpec) -> None:
    levels = sum(residual_block(width) for width in (32, 64, 128)) + conv(128, 4 * 64, 1) + conv(64, 4 * 32, 1)
    without_head = conv(16, 128, 3) + levels + 2 * 32
    decoder = ResidualDecoder(heads={"palette": PaletteHead()}).build(ResidualEncoder(), spec)
    assert parameter_count(decoder) == without_head + conv(32, 16 * len(spec.palette), 1)


@pytest.mark.parametrize(("steps", "side"), [(1, 8), (2, 4), (3, 2), (4, 1), (5, 1)])
def test_the_outputs_are_larger_by_two_to_the_steps(spec: DataSpec, steps: int, side: int) -> None:
    encoder = ResidualEncoder(latent_channels=2, base_channels=8, downsampling_steps=steps)
    heads = {"rgb": RgbHead(), "classes": SegmentationHead(), "layout_type": ClassificationHead()}
    outputs = ResidualDecoder(heads=heads).build(encoder, spec)(torch.randn(2, 2, side, 2 * side))
    height = side * 2**steps
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "rgb": (2, 3, height, 2 * height),
        "classes": (2, 10, height, 2 * height),
        "layout_type": (2, 2),
    }


def test_it_decodes_the_latents_of_another_encoder(spec: DataSpec) -> None:
    encoder = ConvEncoder(latent_channels=2, base_channels=16, downsampling_steps=2)
    model = build_autoencoder(encoder, ResidualDecoder(heads={"palette": PaletteHead()}), spec, Seeds(0))
    assert model.output_names == ("rgb", "segmentation", "latent")
    outputs = model(torch.zeros(1, 3, 16, 24))
    assert outputs["rgb"].shape == (1, 3, 16, 24)
    assert outputs["segmentation"].shape == (1, 10, 16, 24)


def test_its_width_is_the_encoders_unless_it_is_stated(spec: DataSpec) -> None:
    encoder = ResidualEncoder(base_channels=16)
    heads = {"rgb": RgbHead()}
    narrow, wide = (ResidualDecoder(base_channels=width, heads=heads).build(encoder, spec) for width in (None, 32))
    assert parameter_count(narrow) < parameter_count(wide)


def test_two_heads_of_one_output_are_refused(spec: DataSpec) -> None:
    heads = {"palette": PaletteHead(), "rgb": RgbHead()}
    with pytest.raises(UserError, match=r"decoder\.heads\.rgb and decoder\.heads\.palette both give the output 'rgb'"):
        build_autoencoder(ResidualEncoder(), ResidualDecoder(heads=heads), spec, Seeds(0))


def test_a_name_that_torch_cannot_keep_is_refused(spec: DataSpec) -> None:
    with pytest.raises(UserError, match=r"decoder\.heads\.train: torch cannot keep a module by this name"):
        build_autoencoder(ResidualEncoder(), ResidualDecoder(heads={"train": RgbHead()}), spec, Seeds(0))
