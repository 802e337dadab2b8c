from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from imginav_benches import Pace, measure_in_turns, measure_passes, measuring, peak_bytes_of
from imginav_benches.cases import base_case


class Clock:
    """Time that passes only where somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def takes(self, *seconds: float) -> Any:
        times = iter(seconds)

        def work() -> None:
            self.now += next(times)

        return work


class Benchmark:
    """As pytest-benchmark's fixture measures, on a clock of its own."""

    def __init__(self, clock: Clock, *, enabled: bool = True) -> None:
        self.clock, self.enabled = clock, enabled
        self.extra_info: dict[str, Any] = {}
        self.stats: Any = None

    def pedantic(self, target: Any, setup: Any, rounds: int, warmup_rounds: int = 0) -> None:
        data = []
        for _ in range(warmup_rounds + rounds):
            setup()
            start = self.clock.now
            target()
            data.append(self.clock.now - start)
        if self.enabled:
            self.stats = SimpleNamespace(stats=SimpleNamespace(data=data[warmup_rounds:]))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock.now)
    return clock


def test_the_ratio_is_that_of_the_turns_after_warming_up(clock: Clock) -> None:
    benchmark = Benchmark(clock)
    measure_in_turns(benchmark, clock.takes(100, 2, 4), clock.takes(50, 1, 1), rounds=2, peer="another")
    assert benchmark.extra_info == {
        "peer": "another",
        "ratio_to_peer": pytest.approx(3),
        "ratios": pytest.approx([2, 4]),
        "peer_seconds": pytest.approx([1, 1]),
    }


def test_passes_warm_up_and_fill_the_time(clock: Clock) -> None:
    benchmark = Benchmark(clock)
    work = clock.takes(30, 1, 1, *range(1, 5))
    measure_passes(
        benchmark, work, clock.takes(1, 9, *[1] * 4), Pace(seconds=8, fewest=2, most=9, turns=1, few_turns=1)
    )
    assert benchmark.extra_info["first_pass_seconds"] == 30
    assert benchmark.stats.stats.data == pytest.approx([1, 2, 3, 4])
    assert benchmark.extra_info["p95_seconds"] == pytest.approx(3.85)


@pytest.mark.parametrize(("once", "passes"), [(0, 20), (0.01, 20), (0.5, 4), (1.1, 2), (60, 2)])
def test_pace(once: float, passes: int) -> None:
    assert Pace(seconds=2, fewest=2, most=20, turns=1, few_turns=1).passes(once) == passes


def test_without_measuring_there_are_no_ratios(clock: Clock) -> None:
    benchmark = Benchmark(clock, enabled=False)
    measure_passes(benchmark, clock.takes(*[1] * 9), clock.takes(*[1] * 9), Pace(1, 2, 2, 1, 1))
    assert benchmark.extra_info == {"first_pass_seconds": 1}


def test_peak_of_what_is_alive() -> None:
    device = base_case("cpu").open("cpu")

    def work() -> torch.Tensor:
        one = torch.zeros(1000)
        two = one + 1
        del one
        return two + 1

    assert peak_bytes_of(work, device) == 2 * 4000
