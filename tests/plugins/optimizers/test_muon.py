"""Muon beside AdamW: which weights follow which, and that both are one optimizer to others."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from imginav_optimizers import Muon
from imginav_optimizers.muon import MuonWithAdamW
from imginav_optimizers.stacked_muon import NEWTON_SCHULZ, StackedMuon, orthogonal, orthogonal_directions


class Calls(TorchDispatchMode):
    """Counts what torch is asked to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(function).split(".")[1] in ("bmm", "baddbmm", "cat", "stack", "div", "add_", "linalg_vector_norm"):
            self.names[str(function)] += 1
        return function(*args, **(kwargs or {}))


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
    """But for the rounding of bf16, in which torch makes it orthogonal."""
    model = network()
    matrix = nn.Parameter(model[0].weight.detach().flatten(1).clone())
    alone = torch.optim.Muon([matrix], lr=0.1, momentum=0.9, weight_decay=0.02)
    optimizer = Muon(learning_rate=0.1, momentum=0.9, weight_decay=0.02).build(model)
    start = matrix.detach().clone()
    for seed in range(3):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        matrix.grad = model[0].weight.grad.flatten(1).clone()
        alone.step()
        optimizer.step()
    moved, expected = model[0].weight.detach().flatten(1) - start, matrix.detach() - start
    assert (moved - expected).norm() < 0.02 * expected.norm()


def in_double(matrix: Tensor) -> Tensor:
    """Return what five Newton-Schulz steps make of a matrix's singular values, of which they are polynomials."""
    left, values, right = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
    a, b, c = NEWTON_SCHULZ
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    return (left * values) @ right


@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-4, 1e-6, 0.0])
def test_small_singular_values_come_out_as_they_should(smallest: float) -> None:
    torch.manual_seed(0)
    matrices = [torch.randn(16, 3) @ torch.randn(3, 40) + smallest * torch.randn(16, 40) for _ in range(3)]
    for actual, matrix in zip(orthogonal(matrices), matrices, strict=True):
        expected = in_double(matrix)
        assert (actual - expected).norm() < 1e-3 * expected.norm()


def test_matrices_of_all_shapes_are_made_orthogonal_together_as_each_alone() -> None:
    torch.manual_seed(0)
    matrices = [torch.randn(shape) for shape in [(8, 20), (4, 6), (8, 9), (4, 6), (8, 20), (1, 1)]]
    together = orthogonal(matrices)
    for actual, matrix in zip(together, matrices, strict=True):
        torch.testing.assert_close(actual, orthogonal([matrix])[0])


def test_a_tall_matrix_steps_as_torchs_muon_lets_it() -> None:
    torch.manual_seed(0)
    tall = torch.randn(48, 12)
    (update,) = orthogonal_directions([tall])
    torch.testing.assert_close(update, 2 * orthogonal([tall.T])[0].T)


def test_more_layers_of_the_same_shapes_take_no_more_calls_to_make_orthogonal() -> None:
    def calls(layers: int) -> Counter[str]:
        matrices = [torch.randn(8, 20) for _ in range(layers)]
        with Calls() as seen:
            orthogonal(matrices)
        return seen.names

    assert calls(20) == calls(2)
    assert calls(2)["aten.bmm.default"] < 20


def test_a_checkpoint_of_torchs_muon_goes_on() -> None:
    model = network()
    kernels = [p for p in model.parameters() if p.dim() == 4]
    train(model, Muon().build(model), 2)
    matrices = [nn.Parameter(kernel.detach().flatten(1)) for kernel in kernels]
    before = torch.optim.Muon(matrices)
    for matrix, kernel in zip(matrices, kernels, strict=True):
        matrix.grad = kernel.grad.flatten(1)
    before.step()
    optimizer = StackedMuon(kernels, lr=0.1, momentum=0.95, weight_decay=0.0)
    optimizer.load_state_dict(before.state_dict())
    for matrix, kernel in zip(matrices, kernels, strict=True):
        momentum = optimizer.state[kernel]["momentum_buffer"]
        torch.testing.assert_close(momentum, before.state[matrix]["momentum_buffer"].view_as(kernel))
    optimizer.step()


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
