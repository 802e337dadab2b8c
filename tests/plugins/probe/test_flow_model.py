"""The flow model: as much arithmetic for every shape of latent, and each token from its own place."""

from __future__ import annotations

import itertools
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from imginav_probe.flow_model import Block, FlowTransformer, Patches, Unpatches, tokens_along_side

Model = TypeVar("Model", bound=nn.Module)

SHAPES = [(16, 8), (4, 8), (4, 16), (16, 16), (16, 4)]
"""Channels and side of latents of 128 pixels."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def roused(model: Model) -> Model:
    """Return a model with weights everywhere, also where it begins with zeros."""
    generator = seeded()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def small(depth: int = 1, *, condition: int = 0, channels: int = 3, side: int = 8) -> FlowTransformer:
    """Return a model of 4 × 4 tokens for 64 pixels."""
    return FlowTransformer(channels, side, 64, width=64, depth=depth, condition=condition)


def changed(before: Tensor, after: Tensor) -> set[tuple[int, ...]]:
    return {tuple(place) for place in torch.nonzero(before != after).tolist()}


@pytest.mark.parametrize(
    ("image_size", "tokens"), [(16, 1), (32, 2), (128, 8), (272, 17), (512, 32), (768, 24), (1024, 32), (2048, 32)]
)
def test_a_token_is_sixteen_pixels_up_to_the_most_tokens(image_size: int, tokens: int) -> None:
    assert tokens_along_side(image_size) == tokens


@pytest.mark.parametrize(("image_size", "pixels"), [(100, 16), (8, 16), (528, 32)])
def test_a_side_that_is_not_whole_in_tokens_is_refused(image_size: int, pixels: int) -> None:
    with pytest.raises(ValueError, match=f"expected a side that is a multiple of {pixels} pixels, found {image_size}"):
        tokens_along_side(image_size)


def operations(channels: int, side: int) -> tuple[int, int]:
    """Return the operations of the whole model, and of its blocks."""
    model = FlowTransformer(channels, side, 128, width=192, depth=4)
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.zeros(1, channels, side, side), torch.zeros(1))
    counts = counter.get_flop_counts()
    blocks = [sum(counts[f"FlowTransformer.blocks.{number}"].values()) for number in range(4)]
    return counter.get_total_flops(), sum(blocks)


def test_all_shapes_of_latents_take_as_much_arithmetic() -> None:
    found = [operations(channels, side) for channels, side in SHAPES]
    whole, blocks = zip(*found, strict=True)
    assert max(whole) < 1.02 * min(whole)
    assert len(set(blocks)) == 1
    assert blocks[0] > 0.9 * max(whole)


@pytest.mark.parametrize(("channels", "side"), SHAPES)
def test_the_velocity_has_the_shape_of_the_latents_and_is_zero_before_training(channels: int, side: int) -> None:
    latents = torch.randn(2, channels, side, side, generator=seeded())
    model = FlowTransformer(channels, side, 128, width=64, depth=2)
    velocity = model(latents, torch.tensor([0.2, 0.9]))
    assert velocity.shape == latents.shape
    assert not velocity.any()
    assert roused(model)(latents, torch.tensor([0.2, 0.9])).all()


@pytest.mark.parametrize("side", [4, 8, 16, 32])
def test_a_cell_changes_the_tokens_of_its_own_place_alone(side: int) -> None:
    patches = Patches(3, side, 8, 12)
    latents = torch.randn(1, 3, side, side, generator=seeded())
    before = patches(latents)
    assert before.shape == (1, 64, 12)
    for row, column in itertools.product((0, 1, side // 2, side - 1), repeat=2):
        other = latents.clone()
        other[0, 1, row, column] += 1
        tokens = {(place[1] // 8, place[1] % 8) for place in changed(before, patches(other))}
        rows = {row * 8 // side} if side >= 8 else {2 * row, 2 * row + 1}
        columns = {column * 8 // side} if side >= 8 else {2 * column, 2 * column + 1}
        assert tokens == set(itertools.product(rows, columns))


@pytest.mark.parametrize("side", [4, 8, 16, 32])
def test_a_token_changes_the_cells_of_its_own_place_alone(side: int) -> None:
    unpatches = roused(Unpatches(3, side, 8, 12))
    tokens = torch.randn(1, 64, 12, generator=seeded())
    before = unpatches(tokens)
    assert before.shape == (1, 3, side, side)
    for row, column in itertools.product((0, 1, 4, 7), repeat=2):
        other = tokens.clone()
        other[0, row * 8 + column] += 1
        cells = {(place[2], place[3]) for place in changed(before, unpatches(other))}
        assert cells == {
            (y, x)
            for y, x in itertools.product(range(side), repeat=2)
            if (row * side // 8, column * side // 8) == (y, x) or (row, column) == (y * 8 // side, x * 8 // side)
        }


@pytest.mark.parametrize("side", [2, 4, 8])
def test_tokens_tell_all_numbers_of_the_latent(side: int) -> None:
    patches = roused(Patches(3, side, 4, 16))
    numbers = torch.eye(3 * side**2).view(-1, 3, side, side)
    seen = (patches(numbers) - patches(torch.zeros(1, 3, side, side))).flatten(1)
    assert int(torch.linalg.matrix_rank(seen.double())) == len(numbers)


def test_each_latent_of_a_batch_is_seen_alone() -> None:
    model = roused(small(condition=1))
    latents, times = torch.randn(3, 3, 8, 8, generator=seeded()), torch.tensor([0.1, 0.5, 0.9])
    condition = torch.randn(3, 1, 64, 64, generator=seeded(1))
    together = model(latents, times, condition)
    alone = [model(latents[n : n + 1], times[n : n + 1], condition[n : n + 1])[0] for n in range(3)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-4)


def test_the_condition_changes_the_velocity() -> None:
    model, latents, times = small(condition=1), torch.randn(2, 3, 8, 8, generator=seeded()), torch.tensor([0.3, 0.6])
    blank, walls = torch.zeros(2, 1, 64, 64), torch.ones(2, 1, 64, 64)
    assert torch.equal(model(latents, times, blank), model(latents, times, walls))
    model = roused(model)
    assert not torch.allclose(model(latents, times, blank), model(latents, times, walls), atol=1e-3)
    assert not torch.allclose(model(latents, times, blank), model(latents, times, walls.tril()), atol=1e-3)


@pytest.mark.parametrize(("image_size", "patch"), [(64, 16), (1024, 32)])
def test_a_condition_is_added_to_the_token_of_its_place(image_size: int, patch: int) -> None:
    tokens = image_size // patch
    model = roused(FlowTransformer(2, tokens, image_size, width=64, depth=0, condition=2))
    latents, times = torch.randn(1, 2, tokens, tokens, generator=seeded()), torch.tensor([0.3])
    condition = torch.zeros(1, 2, image_size, image_size)
    before = model(latents, times, condition)
    for row, column in ((0, 0), (patch - 1, patch), (2 * patch, image_size - 1)):
        other = condition.clone()
        other[0, 1, row, column] = 1
        cells = {(place[2], place[3]) for place in changed(before, model(latents, times, other))}
        assert cells == {(row // patch, column // patch)}


def test_blocks_carry_what_a_cell_says_to_all_others() -> None:
    latents, times = torch.randn(1, 3, 8, 8, generator=seeded()), torch.tensor([0.3])
    other = latents.clone()
    other[0, 0, 0, 0] += 1
    reached = [changed(model(latents, times), model(other, times)) for model in (roused(small(0)), roused(small(1)))]
    assert {place[2:] for place in reached[0]} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert len(reached[1]) == 3 * 8 * 8


def test_times_that_lie_close_together_are_told_apart() -> None:
    latents = torch.randn(1, 3, 8, 8, generator=seeded()).expand(3, -1, -1, -1)
    velocity = roused(small())(latents, torch.tensor([0.5, 0.501, 1.0]))
    near, far = (float((velocity[0] - other).detach().norm()) for other in velocity[1:])
    assert near > 0.05 * far > 0


def test_every_token_has_a_position_of_its_own() -> None:
    positions = FlowTransformer(3, 8, 128, width=64, depth=0).positions
    assert positions.shape == (64, 64)
    apart = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
    assert float((apart + 10 * torch.eye(64)).min()) > 0.1
    same = roused(small(0))(torch.ones(1, 3, 8, 8), torch.tensor([0.5]))[0, :, ::2, ::2].flatten(1).T
    assert len({tuple(cell) for cell in same.tolist()}) == 16


def test_positions_lie_as_the_tokens_do() -> None:
    positions = FlowTransformer(3, 8, 128, width=64, depth=0).positions.view(8, 8, 64)
    rows, columns = positions[..., :32], positions[..., 32:]
    assert torch.equal(rows, rows[:, :1].expand(8, 8, 32))
    assert torch.equal(columns, columns[:1].expand(8, 8, 32))
    assert torch.equal(rows[:, 0], columns[0])


def test_positions_are_not_part_of_the_weights() -> None:
    assert "positions" not in small().state_dict()


def test_an_untrained_block_passes_its_tokens_on() -> None:
    tokens = torch.randn(2, 16, 128, generator=seeded())
    assert torch.equal(Block(128)(tokens, torch.randn(2, 128, generator=seeded(1))), tokens)


def test_a_block_attends_as_torch_does() -> None:
    block = roused(Block(128))
    tokens, time = torch.randn(2, 16, 128, generator=seeded(1)), torch.randn(2, 128, generator=seeded(2))

    def norm(values: Tensor) -> Tensor:
        return (values - values.mean(-1, keepdim=True)) / (values.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()

    shift, scale, gate, shift2, scale2, gate2 = block.modulate(time)[:, None].split(128, dim=-1)
    values = block.qkv(norm(tokens) * (1 + scale) + shift)
    q, k, v = (part.view(2, 16, 2, 64).transpose(1, 2) for part in values.split(128, dim=-1))
    attended = F.scaled_dot_product_attention(norm(q), norm(k), v).transpose(1, 2).reshape(2, 16, 128)
    after = tokens + gate * block.merge(attended)
    wide = block.widen(norm(after) * (1 + scale2) + shift2).clamp(min=0) ** 2
    expected = after + gate2 * block.narrow(wide)
    torch.testing.assert_close(block(tokens, time), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("image_size", "factor"), [(1536, 32), (2048, 32), (1024, 64), (512, 256)])
def test_tokens_and_cells_fit_each_other_also_in_large_windows(image_size: int, factor: int) -> None:
    side = image_size // factor
    latents = torch.randn(1, 4, side, side)
    assert FlowTransformer(4, side, image_size, width=64, depth=0)(latents, torch.rand(1)).shape == latents.shape
