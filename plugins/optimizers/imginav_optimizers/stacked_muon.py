"""Muon over many weights at once: those of one shape are made orthogonal together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic step (Jordan et al., 2024)."""

NEWTON_SCHULZ_STEPS = 5
"""Quintic steps that follow each other."""

SMALLEST_NORM = 1e-7
"""Lower bound on the norm that a direction is divided by."""


class StackedMuon(torch.optim.Optimizer):
    """Moves weights of two or more dimensions as `torch.optim.Muon` moves matrices, in a few calls for all of them.

    A kernel (out, in, k, k) counts as a matrix (out, in · k · k). Its momentum is kept as `momentum_buffer`, in the
    kernel's own shape.
    """

    def __init__(self, weights: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # it has no loss
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            momenta = [self._momentum_of(weight) for weight in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            # Nesterov's: where the momentum will be after another step along this gradient.
            directions = torch._foreach_lerp(gradients, momenta, group["momentum"])
            if group["weight_decay"]:
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            updates = orthogonal_directions(directions)
            torch._foreach_add_(weights, torch._foreach_mul(updates, -group["lr"]))

    def _momentum_of(self, weight: nn.Parameter) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum_buffer"]
        return momentum

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state, also from that of `torch.optim.Muon`, whose momenta are matrices."""
        super().load_state_dict(dict(state_dict))
        for weight, state in self.state.items():
            saved = state["momentum_buffer"]
            state["momentum_buffer"] = torch.empty_like(weight).copy_(saved.view(weight.shape))


def orthogonal_directions(directions: Sequence[Tensor]) -> list[Tensor]:
    """Return each direction with all its singular values moved near 1, in its own shape, as large as Muon steps in it.

    The step of a tall matrix (m, n) is sqrt(m / n) times as large, as `torch.optim.Muon` has it.
    """
    matrices = [_as_matrix(direction) for direction in directions]
    wide = orthogonal([matrix.T if _is_tall(matrix) else matrix for matrix in matrices])
    turned = [
        update.T * math.sqrt(matrix.shape[0] / matrix.shape[1]) if _is_tall(matrix) else update
        for update, matrix in zip(wide, matrices, strict=True)
    ]
    return [_as_weight(update, direction) for update, direction in zip(turned, directions, strict=True)]


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return matrices (m, n), m at most n in each, with all their singular values moved near 1.

    Each Newton-Schulz step multiplies a matrix X from the left by a polynomial in its Gram matrix X Xᵀ. The Gram
    matrices follow each other without X, so X itself is multiplied twice in all, where `torch.optim.Muon` does it ten
    times, and matrices of as many rows share what is between. All of it is in fp32: in bf16 the smallest eigenvalues
    would become negative, and grow.
    """
    places: dict[torch.Size, list[int]] = {}
    for place, matrix in enumerate(matrices):
        places.setdefault(matrix.shape, []).append(place)
    updates = list(matrices)
    for rows in {shape[0]: None for shape in places}:
        stacks = {
            shape: _scaled(torch.stack([matrices[place] for place in places[shape]]))
            for shape in places
            if shape[0] == rows
        }
        polynomials = _newton_schulz(torch.cat([stack @ stack.mT for stack in stacks.values()]))
        parts = torch.split(polynomials, [len(stack) for stack in stacks.values()])
        for (shape, stack), part in zip(stacks.items(), parts, strict=True):
            for place, update in zip(places[shape], (part @ stack).unbind(), strict=True):
                updates[place] = update
    return updates


def _scaled(matrices: Tensor) -> Tensor:
    """Return matrices (N, m, n) with no singular value above 1."""
    norms: Tensor = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    return matrices / norms.clamp(min=SMALLEST_NORM)


def _newton_schulz(gram: Tensor) -> Tensor:
    """Return what all steps together multiply matrices by, whose Gram matrices (N, m, m) are given."""
    product = polynomial = _polynomial(gram)
    for _ in range(NEWTON_SCHULZ_STEPS - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = _polynomial(gram)
        product = product @ polynomial
    return product


def _polynomial(gram: Tensor) -> Tensor:
    a, b, c = NEWTON_SCHULZ
    polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    polynomial.diagonal(dim1=1, dim2=2).add_(a)
    return polynomial


def _as_matrix(weight: Tensor) -> Tensor:
    """Return a view as a matrix; in which order its columns stand makes no difference to what is orthogonal."""
    if weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).flatten(1)
    return weight.flatten(1)


def _as_weight(matrix: Tensor, weight: Tensor) -> Tensor:
    """Return a matrix that `_as_matrix` made of a weight in the weight's own shape."""
    if weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        out, channels, height, width = weight.shape
        return matrix.reshape(out, height, width, channels).permute(0, 3, 1, 2)
    return matrix.reshape(weight.shape)


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]
