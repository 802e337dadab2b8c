"""What arrives at torch's optimizers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from imginav import Optimizer
from imginav_optimizers import SGD, AdamW


@pytest.fixture
def model() -> nn.Sequential:
    """Two layers, the first one frozen."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    return model


def settings(optimizer: torch.optim.Optimizer, *names: str) -> dict[str, object]:
    return {name: optimizer.param_groups[0][name] for name in names}


def test_adamw_has_the_users_defaults(model: nn.Sequential) -> None:
    optimizer = AdamW().build(model)
    assert isinstance(optimizer, torch.optim.AdamW)
    expected = {"lr": 1e-4, "weight_decay": 0.01, "betas": (0.9, 0.999)}
    assert settings(optimizer, "lr", "weight_decay", "betas") == expected


def test_the_settings_of_adamw_arrive(model: nn.Sequential) -> None:
    optimizer = AdamW(learning_rate=0.5, weight_decay=0.25, beta1=0.1, beta2=0.2).build(model)
    expected = {"lr": 0.5, "weight_decay": 0.25, "betas": (0.1, 0.2)}
    assert settings(optimizer, "lr", "weight_decay", "betas") == expected


def test_the_weight_decay_of_adamw_does_not_go_through_the_gradient() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = AdamW(learning_rate=0.1, weight_decay=0.5).build(model)
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    assert model.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))


def test_the_settings_of_sgd_arrive(model: nn.Sequential) -> None:
    optimizer = SGD(learning_rate=0.5, momentum=0.8, weight_decay=0.25, nesterov=True).build(model)
    assert isinstance(optimizer, torch.optim.SGD)
    expected = {"lr": 0.5, "momentum": 0.8, "weight_decay": 0.25, "nesterov": True}
    assert settings(optimizer, "lr", "momentum", "weight_decay", "nesterov") == expected


@pytest.mark.parametrize("config", [AdamW(learning_rate=0.1), SGD(learning_rate=0.1)])
def test_frozen_parameters_are_left_out(model: nn.Sequential, config: Optimizer) -> None:
    optimizer = config.build(model)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model[1].parameters()]
    before = [p.clone() for p in model.parameters()]
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [False, False, True, True]


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a momentum above 0 with nesterov = true, found 0"):
        SGD(momentum=0.0, nesterov=True)


@pytest.mark.parametrize("beta", [{"beta1": 1.0}, {"beta2": 0.0}])
def test_a_decay_that_forgets_all_or_nothing_is_refused(beta: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected a number between 0 and 1, both excluded, found"):
        AdamW(**beta)
