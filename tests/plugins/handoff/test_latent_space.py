"""How latents are scaled, and the file that says so."""

from __future__ import annotations

import json
import math
from pathlib import Path

import attrs
import pytest
import torch

from imginav import DataSpec, UserError
from imginav_handoff.latent_space import LatentSpace, latent_space_of, load_latent_space
from imginav_tests import evaluations

STATISTICS = evaluations.whole_latent(
    sampled_layouts=0, noise=(), encode_shift_error=math.nan, decode_shift_error=math.nan
)

EVALUATION = evaluations.evaluation(
    epochs=3,
    weights_sha256="abc",
    latent_statistics=STATISTICS,
)


@pytest.fixture
def latent(spec: DataSpec) -> LatentSpace:
    return latent_space_of(EVALUATION, spec, variational=False)


def test_it_is_what_the_evaluation_says(latent: LatentSpace) -> None:
    assert (latent.image_size, latent.side, latent.channels, latent.downsampling_factor) == (32, 8, 2, 4)
    assert (latent.scaling_factor, latent.shift_factor) == (4.0, 0.5)
    assert (latent.means, latent.stds, latent.dead_channels) == ((0.4, 0.6), (0.3, 0.0), (1,))
    assert (latent.layouts, latent.weights_sha256) == (12, "abc")


def test_scaling_is_undone(latent: LatentSpace) -> None:
    latents = torch.tensor([[0.5, 0.75]])
    assert latent.scaled(latents).tolist() == [[0.0, 1.0]]
    assert latent.unscaled(latent.scaled(latents)).tolist() == latents.tolist()


@pytest.mark.parametrize(("scaling", "shift"), [(1.0, 0.0), (4.0, 0.0), (1.0, 2.0), (3.0, -0.7)])
def test_what_is_left_to_apply_ends_at_the_same_scaled_latents(
    latent: LatentSpace, scaling: float, shift: float
) -> None:
    given = latent.left_with(scaling_factor=scaling, shift_factor=shift)
    assert (given.scaling_factor, given.shift_factor) == (scaling, shift)
    for found, own in ((given, latent), (latent.left_with(), latent)):
        means = [(mean - found.shift_factor) * found.scaling_factor for mean in found.means]
        assert means == pytest.approx([(mean - own.shift_factor) * own.scaling_factor for mean in own.means])
        stds = [std * found.scaling_factor for std in found.stds]
        assert stds == pytest.approx([std * own.scaling_factor for std in own.stds])


def test_the_log_variance_scales_with_the_latent(latent: LatentSpace) -> None:
    log_variance = torch.tensor([math.log(0.3**2)])
    assert latent.scaled_log_variance(log_variance).exp().sqrt().item() == pytest.approx(0.3 * 4)


def test_of_a_variational_one_the_channels_spread_as_drawn_latents_do(spec: DataSpec) -> None:
    channels = tuple(attrs.evolve(channel, posterior_std=0.4) for channel in STATISTICS.channels)
    evaluation = attrs.evolve(EVALUATION, latent_statistics=attrs.evolve(STATISTICS, channels=channels))
    assert latent_space_of(evaluation, spec, variational=True).stds == pytest.approx((0.5, 0.4))


def test_the_file_is_read_back_and_says_it_in_words(latent: LatentSpace, tmp_path: Path) -> None:
    path = tmp_path / "latent.json"
    latent.save(path)
    assert load_latent_space(path) == latent
    table = json.loads(path.read_text())
    assert (table["height"], table["width"], table["channels"]) == (8, 8, 2)
    assert table["size"] == "an image of H×W pixels has latents of H/4 × W/4 × 2 (H×W×C)"
    assert table["to_scaled"] == "(latents - shift_factor) * scaling_factor, after encoding"
    assert table["from_scaled"] == "latents / scaling_factor + shift_factor, before decoding"
    assert table["images"] == {
        "range": [-1, 1],
        "channel_order": "RGB",
        "axes": "NCHW",
        "from_bytes": "x / 127.5 - 1",
    }
    assert table["layouts_made_of"]["classes"][8:] == ["wall", "background"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"image_size": "large"}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "latent.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"latent\.json: cannot be read as a description of latents .*; make it again"):
        load_latent_space(path)


@pytest.mark.parametrize("factor", [math.inf, math.nan, 0.0])
def test_latents_that_cannot_be_scaled_are_refused(spec: DataSpec, factor: float) -> None:
    evaluation = attrs.evolve(EVALUATION, latent_statistics=attrs.evolve(STATISTICS, scaling_factor=factor))
    with pytest.raises(UserError, match="the latents of tiny have no scaling factor"):
        latent_space_of(evaluation, spec, variational=False)
