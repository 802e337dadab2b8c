"""The learning rate of each step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from imginav import LRSchedule
from imginav_lr_schedules import Constant, Cosine, Linear


def rates(schedule: LRSchedule, total_steps: int, beyond: int = 0) -> list[float]:
    """Return the learning rate of each step, as a share of the optimizer's."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
    built = schedule.build(optimizer, total_steps)
    seen = []
    for _ in range(total_steps + beyond):
        seen.append(optimizer.param_groups[0]["lr"] / 0.5)
        optimizer.step()
        built.step()
    return seen


def test_constant_stays_at_the_optimizers_rate() -> None:
    assert rates(Constant(), 4) == [1.0, 1.0, 1.0, 1.0]


def test_constant_rises_over_its_warmup_and_then_stays() -> None:
    assert rates(Constant(warmup=0.5), 8) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])


def test_cosine_is_half_a_cosine() -> None:
    expected = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert rates(Cosine(warmup=0.0), 8) == pytest.approx(expected)
    assert expected[4] == pytest.approx(0.5)


def test_cosine_rises_over_its_warmup_and_falls_over_the_rest() -> None:
    fall = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert rates(Cosine(warmup=0.2), 10) == pytest.approx([0.5, 1.0, *fall])


def test_the_warmup_of_the_default_is_a_fiftieth_of_the_run() -> None:
    seen = rates(Cosine(), 200)
    assert seen[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert seen[4] > seen[5]


def test_cosine_ends_at_its_final_share_and_stays_there() -> None:
    seen = rates(Cosine(warmup=0.0, final=0.1), 20, beyond=5)
    assert seen[20:] == pytest.approx([0.1] * 5)
    assert seen[10] == pytest.approx(0.55)
    assert seen == sorted(seen, reverse=True)


def test_a_final_share_of_one_is_constant() -> None:
    assert rates(Cosine(warmup=0.0, final=1.0), 5) == [1.0] * 5


def test_linear_falls_in_equal_steps_after_its_warmup() -> None:
    assert rates(Linear(warmup=0.0), 4) == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert rates(Linear(warmup=0.2), 10) == pytest.approx([0.5, 1.0, *(1 - step / 8 for step in range(8))])


def test_linear_stays_at_its_peak_as_long_as_it_is_told() -> None:
    assert rates(Linear(warmup=0.2, plateau=0.4), 10, beyond=2) == pytest.approx(
        [0.5, 1.0, *[1.0] * 4, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    )


def test_a_plateau_that_the_warmup_leaves_no_room_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected warmup and plateau to be 1 at most together, found 1\.25"):
        Linear(warmup=0.5, plateau=0.75)
    assert rates(Linear(warmup=0.5, plateau=0.5), 4) == pytest.approx([0.5, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("schedule", [Constant(warmup=1.0), Cosine(warmup=1.0), Linear(warmup=1.0)])
def test_a_warmup_may_take_the_whole_run(schedule: LRSchedule) -> None:
    assert rates(schedule, 4) == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("schedule", [Constant(), Cosine(), Cosine(warmup=0.0, final=0.5), Linear()])
def test_a_run_of_one_step_takes_the_full_rate(schedule: LRSchedule) -> None:
    assert rates(schedule, 1) == [1.0]


def test_a_schedule_goes_on_where_its_state_was_taken() -> None:
    unbroken = rates(Cosine(warmup=0.3), 10)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
    first = Cosine(warmup=0.3).build(optimizer, 10)
    for _ in range(4):
        optimizer.step()
        first.step()
    again = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
    second = Cosine(warmup=0.3).build(again, 10)
    again.load_state_dict(optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    seen = []
    for _ in range(6):
        seen.append(again.param_groups[0]["lr"] / 0.5)
        again.step()
        second.step()
    assert seen == pytest.approx(unbroken[4:])


@pytest.mark.parametrize("keys", [{"warmup": 1.5}, {"warmup": -0.1}, {"final": 2.0}])
def test_a_share_outside_of_zero_to_one_is_refused(keys: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected a number from 0 to 1, found"):
        Cosine(**keys)
