"""Training of the flow model, which can be resumed anywhere, and sampling from velocities that are known."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imginav.seeds import Seeds
from imginav_probe.flow_model import FlowTransformer
from imginav_probe.flow_training import (
    BASE_DIMENSIONS,
    EMA_DECAY,
    LARGEST_NORM,
    MOST_SHIFT,
    SAMPLING_STEPS,
    FlowTraining,
    drawn_times,
    sample,
    shift_of,
    shifted,
)

RATES = (0.02, 2e-3)

Batch = Callable[[int], tuple[Tensor, Tensor | None]]


def begun(*, seed: int = 0, steps: int = 8, shift: float = 1.0, condition: int = 0) -> FlowTraining:
    """Return the training of a model of 2 × 2 tokens, with the same initial weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = FlowTransformer(2, 4, 32, width=64, depth=1, condition=condition)
    return FlowTraining(model, Seeds(seed), steps, shift, RATES)


def latents_of(step: int) -> tuple[Tensor, Tensor | None]:
    return torch.randn(6, 2, 4, 4, generator=Seeds(5).generator("data", step)), None


def constant(step: int) -> tuple[Tensor, Tensor | None]:
    return torch.tensor([1.0, -1.0])[None, :, None, None].expand(16, 2, 4, 4), None


def advance(training: FlowTraining, steps: int, batch: Batch = latents_of) -> list[float]:
    """Take so many steps, and return their losses."""
    return [float(training.advance(*batch(training.step), nullcontext)) for _ in range(steps)]


def weights(training: FlowTraining) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in training.model.parameters()]


def all_equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def rates(training: FlowTraining) -> tuple[float, ...]:
    return tuple(state["param_groups"][0]["lr"] for state in training.state_dict()["optimizers"])


def spied(training: FlowTraining) -> list[tuple[Any, ...]]:
    """Return a list to which each call of the model adds what it was given."""
    seen: list[tuple[Any, ...]] = []
    training.model.register_forward_pre_hook(lambda _, given: seen.append(given))
    return seen


@pytest.mark.parametrize(
    ("dimensions", "shift"),
    [(16, 1.0), (BASE_DIMENSIONS, 1.0), (4 * BASE_DIMENSIONS, 2.0), (8 * 8 * 16, 8**0.5), (64 * 64 * 16, MOST_SHIFT)],
)
def test_times_of_large_latents_are_shifted_by_the_root_of_their_dimensions(dimensions: int, shift: float) -> None:
    assert shift_of(dimensions) == pytest.approx(shift)


def test_shifted_times_by_hand() -> None:
    times = torch.tensor([0.0, 0.25, 0.5, 1.0])
    torch.testing.assert_close(shifted(times, 1.0), times)
    torch.testing.assert_close(shifted(times, 3.0), torch.tensor([0.0, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(shifted(times, 0.5), torch.tensor([0.0, 1 / 7, 1 / 3, 1.0]))


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_times_to_train_at_are_even_before_they_are_shifted(shift: float) -> None:
    times = drawn_times(10_000, shift, torch.Generator().manual_seed(0))
    even = np.sort((times / (shift - (shift - 1) * times)).numpy())
    np.testing.assert_allclose(even, np.linspace(0, 1, 10_000), atol=0.02)


@pytest.mark.parametrize("shift", [0.3, 1.0, 2.5])
def test_the_velocity_towards_a_single_point_leads_there(shift: float) -> None:
    noise = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    point = torch.tensor([2.0, -3.0])[None, :, None, None]

    def towards(values: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        return (values - point) / times[:, None, None, None]

    model: Any = towards
    found = sample(model, noise, None, shift, nullcontext)
    assert float((found - point).abs().max()) < 1e-5


def test_velocity_over_time_brings_noise_to_zero() -> None:
    noise = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    before = noise.clone()
    model: Any = lambda values, times, _: values / times[:, None, None, None]  # noqa: E731
    assert float(sample(model, noise, None, 1.7, nullcontext).abs().max()) < 1e-6
    assert torch.equal(noise, before)


@pytest.mark.parametrize("shift", [1.0, 2.0, 3.0])
def test_curved_paths_are_followed_to_the_second_order(shift: float) -> None:
    noise = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    model: Any = lambda values, times, _: values  # noqa: E731
    found = sample(model, noise, None, shift, nullcontext)
    # Euler's method would be 2 to 3 % off.
    torch.testing.assert_close(found, noise * math.exp(-1), rtol=3e-3, atol=0.0)


@pytest.mark.parametrize("shift", [0.4, 1.0, 3.0])
def test_sampling_takes_its_steps_from_noise_to_data_at_shifted_times(shift: float) -> None:
    seen: list[float] = []
    given = torch.ones(3, 1, 32, 32)

    def constantly(values: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is given
        assert times.shape == (3,)
        assert len(set(times.tolist())) == 1
        seen.append(float(times[0]))
        return torch.full_like(values, 2.0)

    model: Any = constantly
    noise = torch.zeros(3, 2, 4, 4)
    torch.testing.assert_close(sample(model, noise, given, shift, nullcontext), noise - 2.0)
    even = np.linspace(1, 0, SAMPLING_STEPS + 1)[:-1]
    assert seen == pytest.approx((shift * even / (1 + (shift - 1) * even)).tolist(), abs=1e-6)


@pytest.mark.parametrize("stopped", [1, 4, 7])
def test_a_resumed_training_equals_an_unbroken_one_bit_for_bit(stopped: int) -> None:
    unbroken = begun()
    losses = advance(unbroken, 8)
    first = begun()
    advance(first, stopped)
    second = begun()
    nn.init.ones_(next(second.model.parameters()))
    second.load_state_dict(through_a_file(first.state_dict()))
    assert second.step == stopped
    assert advance(second, 8 - stopped) == losses[stopped:]
    assert all_equal(weights(second), weights(unbroken))
    assert all_equal(second.state_dict()["average"], unbroken.state_dict()["average"])
    second.use_average()
    unbroken.use_average()
    assert all_equal(weights(second), weights(unbroken))


def test_the_same_seed_gives_the_same_model_and_another_one_another() -> None:
    first, again, other = begun(seed=1), begun(seed=1), begun(seed=2)
    torch.manual_seed(3)
    losses = advance(first, 4)
    torch.manual_seed(4)
    assert advance(again, 4) == losses
    assert all_equal(weights(first), weights(again))
    assert advance(other, 4) != losses
    assert not all_equal(weights(first), weights(other))


def test_every_step_draws_noise_of_its_own() -> None:
    training = begun()
    seen = spied(training)
    advance(training, 2, constant)
    assert not torch.equal(seen[0][0], seen[1][0])
    assert not torch.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_the_model_sees_latents_between_data_and_noise_at_shifted_times(shift: float) -> None:
    training = begun(shift=shift)
    seen = spied(training)
    latents = torch.randn(400, 2, 4, 4, generator=torch.Generator().manual_seed(1)) + 3
    loss = training.advance(latents, None, nullcontext)
    mixed, times, condition = seen[0]
    assert condition is None
    at = times[:, None, None, None]
    noise = (mixed - (1 - at) * latents) / at
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert float(loss) == pytest.approx(float((noise - latents).square().mean()), rel=1e-3)  # it predicts 0 so far
    assert float(times.median()) == pytest.approx(shift / (1 + shift), abs=0.06)


def test_the_condition_reaches_the_model_and_is_learned_from() -> None:
    training = begun(condition=1)
    seen = spied(training)
    walls = torch.ones(6, 1, 32, 32)
    before = weights(training)
    advance(training, 6, lambda step: (latents_of(step)[0], walls))
    assert all(given[2] is walls for given in seen)
    assert not any(torch.equal(a, b) for a, b in zip(before, weights(training), strict=True))


def test_the_loss_falls_on_constant_latents_and_samples_become_them() -> None:
    training = begun(steps=80)
    losses = advance(training, 80, constant)
    assert losses[0] == pytest.approx(2, abs=0.3)  # noise of variance 1, and latents of ±1
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:5])
    training.use_average()
    noise = torch.randn(32, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    samples = sample(training.model, noise, None, 1.0, nullcontext)
    assert samples.mean(dim=(0, 2, 3)).tolist() == pytest.approx([1, -1], abs=0.3)
    assert float(samples.std(dim=0).mean()) < 0.6


def test_the_average_follows_the_weights_and_takes_their_place() -> None:
    training = begun(steps=8)
    expected = [value.double() for value in weights(training)]
    for step in range(1, 9):
        advance(training, 1)
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        expected = [
            decay * old + (1 - decay) * new.double() for old, new in zip(expected, weights(training), strict=True)
        ]
    last = weights(training)
    training.use_average()
    for found, value, old in zip(weights(training), expected, last, strict=True):
        torch.testing.assert_close(found.double(), value, rtol=1e-4, atol=1e-6)
        assert not torch.equal(found, old)


def test_the_average_never_forgets_faster_than_its_decay() -> None:
    training = begun(steps=4000)
    training.step = 3000
    before = [value.clone() for value in training.state_dict()["average"]]
    advance(training, 1)
    for average, old, new in zip(training.state_dict()["average"], before, weights(training), strict=True):
        torch.testing.assert_close(average, EMA_DECAY * old + (1 - EMA_DECAY) * new, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_rises_and_then_falls_to_about_zero() -> None:
    training = begun(steps=100)
    seen = []
    for _ in range(100):
        advance(training, 1)
        seen.append(rates(training))
    muon, adamw = np.array(seen).T
    np.testing.assert_allclose(muon[:5], RATES[0] * np.arange(1, 6) / 5)
    np.testing.assert_allclose(adamw, muon * RATES[1] / RATES[0])
    assert muon.max() == pytest.approx(RATES[0])
    assert bool((np.diff(muon[5:]) < 0).all())
    assert muon[52] == pytest.approx(RATES[0] / 2, rel=0.02)
    assert 0 < muon[-1] < 1e-3 * RATES[0]


def test_matrices_have_one_learning_rate_and_all_else_the_other() -> None:
    groups = [state["param_groups"] for state in begun().state_dict()["optimizers"]]
    assert [len(group) for group in groups] == [1, 1]
    counts = [len(group[0]["params"]) for group in groups]
    parameters = list(begun().model.parameters())
    assert counts == [sum(p.dim() == 2 for p in parameters), sum(p.dim() != 2 for p in parameters)]


def test_gradients_are_clipped() -> None:
    training = begun()
    norms: list[float] = []

    def measured(*_: object) -> None:
        squares = [float(p.grad.square().sum()) for p in training.model.parameters() if p.grad is not None]
        norms.append(math.sqrt(sum(squares)))

    training._optimizers[0].register_step_pre_hook(measured)
    training.advance(1000 * latents_of(0)[0], None, nullcontext)
    assert norms == [pytest.approx(LARGEST_NORM, rel=1e-3)]


def test_gradients_of_one_step_do_not_add_to_the_next() -> None:
    training = begun()
    advance(training, 3)
    assert all(parameter.grad is None for parameter in training.model.parameters())


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_take_their_steps(steps: int) -> None:
    training = begun(steps=steps)
    assert all(math.isfinite(loss) for loss in advance(training, steps))
    assert all(rate >= 0 for rate in rates(training))
    assert all(bool(value.isfinite().all()) for value in weights(training))
