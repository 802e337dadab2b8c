"""Figures of latents against values computed by hand, on networks that are simple enough for that."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from imginav.model.autoencoder import Autoencoder
from imginav.runs.evaluation_result import Latent
from imginav.training.device import Device
from imginav.training.trainer import Trainer
from imginav_evaluation.latent_statistics import (
    Coder,
    LatentSums,
    decoded_path,
    latent_statistics,
    path_length_ratio,
    spherical,
    straight,
    with_decoding,
)

FACTOR = 4

DEVICE = Device(torch.device("cpu"), torch.float32, torch.contiguous_format, 0)


class Shuffle(nn.Module):
    """Pixels as channels: an encoder that loses nothing, and moves with what it sees."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.pixel_unshuffle(images, FACTOR)


class Unshuffle(nn.Module):
    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        return {"rgb": nn.functional.pixel_shuffle(latents, FACTOR)}


class ByColumn(Shuffle):
    """Adds the number of the column to each cell, and so knows where it is."""

    def forward(self, images: Tensor) -> Tensor:
        latents = super().forward(images)
        return latents + torch.arange(latents.shape[-1], dtype=torch.float32)


def model_of(encoder: nn.Module | None = None) -> Autoencoder:
    return Autoencoder(encoder or Shuffle(), Unshuffle(), variational=False, heads=("rgb",))


def layouts(number: int, side: int = 48) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (1, side, side, 3), generator=generator, dtype=torch.uint8) for _ in range(number)]


def statistics(model: Autoencoder, pixels: list[Tensor]) -> Latent:
    return latent_statistics(model, [{"rgb": layout} for layout in pixels], DEVICE)


def test_statistics_are_those_of_all_values_however_they_come() -> None:
    values = torch.randn(7, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3 + 10
    sums = LatentSums()
    for part in values.split([1, 4, 2]):
        sums.add(part, None)
    latent = sums.latent()
    assert latent.layouts == 7
    assert (latent.mean, latent.std) == pytest.approx((values.mean().item(), values.std(correction=0).item()), rel=1e-6)
    assert latent.scaling_factor == pytest.approx(1 / latent.std)
    assert (latent.minimum, latent.maximum) == (values.min().item(), values.max().item())
    assert [c.mean for c in latent.channels] == pytest.approx(values.mean(dim=(0, 2, 3)).tolist(), rel=1e-6)
    assert [c.std for c in latent.channels] == pytest.approx(
        values.transpose(0, 1).flatten(1).std(dim=1, correction=0).tolist(), rel=1e-5
    )
    assert latent.drawn_std is None
    assert {c.kl for c in latent.channels} == {c.posterior_std for c in latent.channels} == {None}


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.floats(-5, 5), st.floats(0.01, 10))
def test_scaled_latents_have_unit_standard_deviation(parts: list[int], mean: float, std: float) -> None:
    values = torch.randn(sum(parts), 2, 3, 3, generator=torch.Generator().manual_seed(2)) * std + mean
    sums = LatentSums()
    for part in values.split(parts):
        sums.add(part, None)
    scaled = (values.double() - sums.latent().mean) * sums.latent().scaling_factor
    assert scaled.std(correction=0).item() == pytest.approx(1, rel=1e-5)


def test_latents_of_training_layouts_scaled_by_the_factor_have_unit_standard_deviation(
    make_trainer: Callable[..., Trainer],
) -> None:
    trainer = make_trainer()
    samples = [trainer.data.source.read(index) for index in trainer.data.split.train]
    latent = statistics(trainer.model, [torch.from_numpy(s["rgb"])[None] for s in samples])
    images = trainer.device.batch({"rgb": torch.stack([torch.from_numpy(s["rgb"]) for s in samples])})["rgb"]
    with torch.no_grad():
        scaled = (trainer.model.encode(images) - latent.mean) * latent.scaling_factor
    assert scaled.std(correction=0).item() == pytest.approx(1, rel=1e-4)
    assert latent.layouts == len(trainer.data.split.train)


def test_a_channel_that_hardly_varies_is_dead() -> None:
    values = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    values[:, 1] = 0.5
    values[:, 2] *= 0.1
    sums = LatentSums()
    sums.add(values, None)
    assert sums.latent().dead_channels == [1]


def test_a_mean_that_hardly_varies_is_dead_in_a_variational_latent_alone() -> None:
    mean = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    mean[:, 1] *= 0.05
    deterministic, variational = LatentSums(), LatentSums()
    deterministic.add(mean, None)
    variational.add(mean, torch.zeros_like(mean))
    assert deterministic.latent().dead_channels == []
    assert variational.latent().dead_channels == [1]


def test_all_channels_of_a_constant_latent_are_dead_and_its_factor_is_infinite() -> None:
    sums = LatentSums()
    sums.add(torch.ones(2, 3, 4, 4), None)
    assert sums.latent().dead_channels == [0, 1, 2]
    assert sums.latent().scaling_factor == math.inf


def test_a_variational_latent_has_divergence_and_spread_of_each_channel() -> None:
    mean = torch.zeros(1, 2, 1, 2)
    mean[0, 1] = torch.tensor([1.0, -1.0])
    log_variance = torch.full((1, 2, 1, 2), math.log(0.25))
    log_variance[0, 0] = 0.0
    sums = LatentSums()
    sums.add(mean, log_variance)
    latent = sums.latent()
    # Channel 0 says nothing: N(0, 1) whatever the layout. Channel 1 is N(±1, 0.25).
    assert latent.channels[0].kl == pytest.approx(0)
    assert latent.channels[1].kl == pytest.approx(0.5 * (0.25 + 1 - 1 - math.log(0.25)))
    assert [c.posterior_std for c in latent.channels] == pytest.approx([1.0, 0.5])
    assert latent.dead_channels == [0]
    # Half of the values are drawn from N(0, 1), a quarter each from N(1, 0.25) and N(-1, 0.25).
    assert latent.drawn_std == pytest.approx(math.sqrt(0.5 * 1 + 0.5 * (1 + 0.25)))
    assert latent.scaling_factor == pytest.approx(1 / latent.drawn_std)  # diffusion trains on what is drawn


def test_noise_costs_what_it_adds_where_decoding_keeps_distances() -> None:
    model, pixels = model_of(), layouts(4)
    before = statistics(model, pixels)
    latent = with_decoding(before, model, pixels, [0.1, 0.5], DEVICE)
    assert [n.level for n in latent.noise] == [0.0, 0.1, 0.5]
    assert (latent.noise[0].mse, latent.noise[0].mse_added) == (0, 0)
    for noise in latent.noise[1:]:
        assert noise.mse_added == pytest.approx((noise.level * latent.std) ** 2, rel=0.05)
        assert noise.mse == pytest.approx(noise.mse_added, rel=1e-4)
    assert latent.sampled_layouts == 4
    assert (latent.scaling_factor, latent.channels) == (before.scaling_factor, before.channels)


def test_what_moves_with_its_layout_has_no_shift_error() -> None:
    latent = with_decoding(statistics(model_of(), layouts(2)), model_of(), layouts(2), [], DEVICE)
    assert (latent.encode_shift_error, latent.decode_shift_error) == (0, 0)


def test_what_knows_where_it_is_has_a_shift_error() -> None:
    model = model_of(ByColumn())
    latent = with_decoding(statistics(model, layouts(2)), model, layouts(2), [], DEVICE)
    # Off by one in one of the two directions.
    assert latent.encode_shift_error == pytest.approx(math.sqrt(0.5) / latent.std, rel=1e-5)
    assert latent.decode_shift_error == 0


def test_shifts_of_too_few_cells_are_not_measured() -> None:
    pixels = layouts(1, side=16)
    latent = with_decoding(statistics(model_of(), pixels), model_of(), pixels, [0.1], DEVICE)
    assert math.isnan(latent.encode_shift_error)
    assert math.isnan(latent.decode_shift_error)
    assert latent.noise[1].mse > 0


def test_both_ways_between_latents_begin_and_end_at_them() -> None:
    start, end = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    for way in (straight, spherical):
        torch.testing.assert_close(way(start, end, 0.0), start)
        torch.testing.assert_close(way(start, end, 1.0), end)
    torch.testing.assert_close(straight(start, end, 0.25), 0.75 * start + 0.25 * end)


def test_the_great_circle_keeps_the_length() -> None:
    start, end = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    middle = spherical(start, end, 0.5)
    torch.testing.assert_close(middle, torch.tensor([[math.sqrt(2), math.sqrt(2)]]))
    third = spherical(start, end, 1 / 3)
    torch.testing.assert_close(third, 2 * torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]]))


@pytest.mark.parametrize("end", [[[2.0, 0.0]], [[4.0, 0.0]], [[-2.0, 0.0]], [[0.0, 0.0]]])
def test_between_parallel_latents_the_great_circle_is_the_straight_line(end: list[list[float]]) -> None:
    start = torch.tensor([[2.0, 0.0]])
    middle = spherical(start, torch.tensor(end), 0.5)
    torch.testing.assert_close(middle, (start + torch.tensor(end)) / 2)


def test_the_decoded_path_has_its_ends_and_as_many_steps_as_asked_for() -> None:
    coder = Coder(model_of(), DEVICE)
    first, last = (DEVICE.batch({"rgb": layout})["rgb"] for layout in layouts(2))
    images = list(decoded_path(coder.encode(first), coder.encode(last), straight, 5, coder))
    assert len(images) == 5
    torch.testing.assert_close(images[0], first)
    torch.testing.assert_close(images[-1], last)
    torch.testing.assert_close(images[2], (first + last) / 2)


def test_path_length_over_distance() -> None:
    corner = [torch.tensor([0.0, 0.0]), torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0])]
    assert path_length_ratio(corner) == pytest.approx(7 / 5)
    fade = [torch.tensor([0.0, 0.0]), torch.tensor([1.5, 2.0]), torch.tensor([3.0, 4.0])]
    assert path_length_ratio(fade) == pytest.approx(1)
    assert math.isnan(path_length_ratio([corner[0], corner[1], corner[0]]))
