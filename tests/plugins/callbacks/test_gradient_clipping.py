"""The norm of the gradients of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from imginav import hookimpl
from imginav.training.trainer import Trainer
from imginav_callbacks import GradientClipping

MakeRun = Callable[..., Any]


class Gradients:
    """Keeps all gradients of each step as one vector."""

    def __init__(self) -> None:
        self.of_steps: list[torch.Tensor] = []

    @hookimpl
    def gradients_ready(self, trainer: Trainer) -> None:
        self.of_steps.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]))


def gradients(make_run: MakeRun, *callbacks: GradientClipping) -> list[torch.Tensor]:
    seen = Gradients()
    make_run({f"clip{i}": c for i, c in enumerate(callbacks)}, {"seen": seen}, epochs=1).fit()
    return seen.of_steps


def test_a_large_gradient_keeps_its_direction_and_gets_the_largest_norm(make_run: MakeRun) -> None:
    free, clipped = gradients(make_run), gradients(make_run, GradientClipping(max_norm=1e-3))
    assert free[0].norm() > 1e-2
    assert [g.norm().item() for g in clipped] == pytest.approx([1e-3, 1e-3], rel=1e-3)
    torch.testing.assert_close(clipped[0] / clipped[0].norm(), free[0] / free[0].norm(), rtol=1e-3, atol=1e-6)


def test_a_small_gradient_stays_as_it_is(make_run: MakeRun) -> None:
    free, clipped = gradients(make_run), gradients(make_run, GradientClipping(max_norm=1e6))
    assert all(torch.equal(a, b) for a, b in zip(free, clipped, strict=True))


def test_a_norm_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a number above 0, found 0"):
        GradientClipping(max_norm=0)
