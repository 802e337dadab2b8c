"""Muon beside AdamW: which weights follow which, and that both are one optimizer to others."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from imginav_optimizers import Muon
from imginav_optimizers.muon import MuonWithAdamW


def network(memory_format: torch.memory_format = torch.contiguous_format) -> nn.Sequential:
    """Two convolutions with a norm between them, the same each time."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Conv2d(8, 3, 3, padding=1))
    return layers.to(memory_format=memory_format)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 1) -> float:
    """Let the model repeat its input for some steps; return the last loss."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        images = torch.randn(4, 3, 8, 8, generator=generator)
        loss = (model(images) - images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_a_kernel_moves_as_torchs_muon_moves_its_matrix() -> None:
    model = network()
    matrix = nn.Parameter(model[0].weight.detach().flatten(1).clone())
    alone = torch.optim.Muon([matrix], lr=0.1, momentum=0.9, weight_decay=0.02)
    optimizer = Muon(learning_rate=0.1, momentum=0.9, weight_decay=0.02).build(model)
    for seed in range(3):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        matrix.grad = model[0].weight.grad.flatten(1).clone()
        alone.step()
        optimizer.step()
        torch.testing.assert_close(model[0].weight.flatten(1), matrix)


def test_biases_and_norms_move_as_torchs_adamw_moves_them() -> None:
    model = network()
    biases = [nn.Parameter(p.detach().clone()) for p in model.parameters() if p.dim() == 1]
    alone = torch.optim.AdamW(biases, lr=0.01, weight_decay=0.0)
    optimizer = Muon(adamw_learning_rate=0.01, weight_decay=0.5).build(model)
    for seed in range(3):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        for bias, parameter in zip(biases, [p for p in model.parameters() if p.dim() == 1], strict=True):
            bias.grad = parameter.grad.clone()
        alone.step()
        optimizer.step()
    moved = [p for p in model.parameters() if p.dim() == 1]
    torch.testing.assert_close(list(moved), biases)


def test_the_memory_format_changes_nothing() -> None:
    plain, channels_last = network(), network(torch.channels_last)
    for model in (plain, channels_last):
        train(model, Muon().build(model), 15)
    torch.testing.assert_close(weights(plain), weights(channels_last))


def test_a_checkpoint_goes_on_with_the_momentum_on_another_memory_format() -> None:
    unbroken = network()
    optimizer = Muon().build(unbroken)
    train(unbroken, optimizer, 4)
    saved = copy.deepcopy((unbroken.state_dict(), optimizer.state_dict()))
    train(unbroken, optimizer, 4, seed=2)
    resumed = network(torch.channels_last)
    resumed.load_state_dict(saved[0])
    again = Muon().build(resumed)
    without_momentum = train(copy.deepcopy(resumed), Muon().build(network()), 4, seed=2)
    again.load_state_dict(saved[1])
    loss = train(resumed, again, 4, seed=2)
    torch.testing.assert_close(weights(resumed), weights(unbroken))
    assert abs(loss - without_momentum) > 1e-4


def test_a_schedule_sets_both_rates() -> None:
    model = network()
    optimizer = Muon(learning_rate=0.5, adamw_learning_rate=0.25).build(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step else 1.0)
    train(model, optimizer, 1)
    schedule.step()
    assert schedule.get_last_lr() == [0.0, 0.0]
    before = weights(model)
    train(model, optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


def test_weights_that_are_put_in_place_are_those_that_move() -> None:
    model = network()
    optimizer = Muon().build(model)
    train(model, optimizer, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model[0].weight.data = torch.zeros_like(model[0].weight)  # as moving it to a memory format does
    train(model, optimizer, 1)
    # From zero, an orthogonal step of the default rate goes no farther than this.
    assert 0 < model[2].weight.detach().abs().max() < 0.05


def test_frozen_weights_and_those_without_gradients_stay() -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = Muon().build(model)
    unused = nn.Parameter(torch.ones(2, 2))
    assert isinstance(optimizer, MuonWithAdamW)
    before = weights(model)
    train(model, optimizer, 2)
    moved = [not torch.equal(a, b) for a, b in zip(before, weights(model), strict=True)]
    assert moved == [False, False, True, True, True, True]
    lonely = Muon().build(nn.ParameterList([unused, nn.Parameter(torch.ones(2))]))
    lonely.step()
    assert torch.equal(unused, torch.ones(2, 2))


@pytest.mark.parametrize("shape", [(4,), (4, 4)])
def test_a_network_of_one_kind_of_weights_alone_is_trained(shape: tuple[int, ...]) -> None:
    model = nn.ParameterList([nn.Parameter(torch.ones(shape))])
    optimizer = Muon(learning_rate=0.1, adamw_learning_rate=0.1).build(model)
    model[0].square().sum().backward()
    optimizer.step()
    assert (model[0] < 1).any()
    optimizer.load_state_dict(optimizer.state_dict())
