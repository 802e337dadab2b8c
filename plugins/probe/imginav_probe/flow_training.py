"""Trains a rectified flow on latents, and samples from it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from imginav.seeds import Seeds

BASE_DIMENSIONS = 128
"""Numbers in a latent from which on times are shifted."""

MOST_SHIFT = 6.0
"""What times are shifted by at most: beyond it, too few steps of a sample are left for what is small."""

EMA_DECAY = 0.995
"""What stays of the averaged weights at each step; less at first, or they would remember the initial ones."""

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; over the rest it falls to zero along a cosine."""

LARGEST_NORM = 1.0
"""Gradients are clipped to this norm."""

SAMPLING_STEPS = 24
"""Evaluations of the model from noise to a sample."""


Batch = Callable[[int], "tuple[Tensor, Tensor | None]"]
"""Returns the latents and the condition of a step, by its number."""


def shift_of(dimensions: int) -> float:
    """Return by how much times are shifted towards noise for latents of so many numbers: √(dimensions / 128), 1 to 6.

    A larger latent shows through more noise (Stable Diffusion 3, arXiv 2403.03206). RAE (2510.11690) divides by 4,096;
    drawn layouts are so redundant that what a layout contains as a whole is decided near pure noise (docs/probe.md).
    """
    return min(MOST_SHIFT, max(1.0, math.sqrt(dimensions / BASE_DIMENSIONS)))


def shifted(times: Tensor, shift: float) -> Tensor:
    """Return times from 0 (data) to 1 (noise), shifted towards noise by more than 1 and towards data by less."""
    return shift * times / (1 + (shift - 1) * times)


def drawn_times(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """Return times (N) to train at: uniform, shifted."""
    return shifted(torch.rand(count, generator=generator), shift)


class FlowTraining:
    """The training of a flow model, from its first step to its last; what it draws depends on seed and step alone."""

    def __init__(self, model: nn.Module, seeds: Seeds, steps: int, shift: float, rates: tuple[float, float]) -> None:
        """Train for `steps` steps, with peak learning rates of Muon for matrices and of AdamW for all else."""
        self.model, self.steps, self.step = model, steps, 0
        self._seeds, self._shift = seeds, shift
        parameters = list(model.parameters())
        self._average = [p.detach().clone() for p in parameters]
        matrices = [p for p in parameters if p.dim() == 2]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=rates[0], weight_decay=0.0),
            torch.optim.AdamW([p for p in parameters if p.dim() != 2], lr=rates[1], weight_decay=0.0),
        ]
        self._rates = rates

    def advance(self, latents: Tensor, condition: Tensor | None, autocast: Callable[[], Any]) -> Tensor:
        """Take one step on a batch of standardised latents, and return its loss: the mean squared velocity error."""
        generator = self._seeds.generator("noise", self.step)
        device = latents.device
        noise = torch.randn(latents.shape, generator=generator).to(device)
        times = drawn_times(len(latents), self._shift, generator).to(device)
        at = times[:, None, None, None]
        with autocast():
            velocity = self.model((1 - at) * latents + at * noise, times, condition)
        loss = F.mse_loss(velocity.float(), noise - latents)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM)
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * self._schedule()
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        average(self._average, [p.detach() for p in self.model.parameters()], None)
        return loss.detach()

    def _schedule(self) -> float:
        warm_up = max(1.0, WARM_UP * self.steps)
        if self.step < warm_up:
            return (self.step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (self.step - warm_up) / max(1.0, self.steps - warm_up)))

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the averaged weights into the model, once the last step is taken."""
        for parameter, average in zip(self.model.parameters(), self._average, strict=True):
            parameter.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self._average,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for average, value in zip(self._average, state["average"], strict=True):
            average.copy_(value)
        for optimizer, own in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        self.step = state["step"]


@torch.no_grad()
def sample(
    model: nn.Module, noise: Tensor, condition: Tensor | None, shift: float, autocast: Callable[[], Any]
) -> Tensor:
    """Return samples (N, C, s, s) that a flow model makes of noise of the same shape.

    By the two-step method of Adams and Bashforth, whose error falls with the square of the step: with as many
    evaluations, Euler's method left more of an error than the model (docs/probe.md).
    """
    times = shifted(torch.linspace(1, 0, SAMPLING_STEPS + 1), shift).tolist()
    values = noise
    previous: tuple[float, Tensor] | None = None  # time and velocity of the step before
    for now, after in itertools.pairwise(times):
        with autocast():
            velocity = model(values, torch.full((len(values),), now, device=values.device), condition).float()
        slope = velocity
        if previous is not None:
            earlier, before = previous
            slope = velocity + 0.5 * (after - now) / (now - earlier) * (velocity - before)
        values = values + (after - now) * slope
        previous = now, velocity
    return values
