"""Benches: what is measured beside what, and the ratios at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["torch"] = torch.__version__
    machine_info["threads"] = torch.get_num_threads()
    machine_info["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None


@pytest.fixture
def interleaved(benchmark: Any) -> Callable[..., None]:
    """Measure `ours` and a peer in turns, so that both meet the same noise; the ratio is that of their sums."""

    def measure(ours: Callable[[], object], theirs: Callable[[], object], *, rounds: int, peer: str) -> None:
        peer_seconds: list[float] = []

        def run_peer() -> None:
            start = time.perf_counter()
            theirs()
            peer_seconds.append(time.perf_counter() - start)

        benchmark.pedantic(ours, setup=run_peer, rounds=rounds, warmup_rounds=1)
        own, other = benchmark.stats.stats.data, peer_seconds[-rounds:]  # without the warm-up
        benchmark.extra_info |= {
            "peer": peer,
            "ratio_to_peer": sum(own) / sum(other),
            "ratios": [a / b for a, b in zip(own, other, strict=True)],
            "peer_seconds": other,
        }

    return measure


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    rows = [bench for bench in getattr(session, "benchmarks", ()) if "ratio_to_peer" in bench.extra_info]
    if rows:
        terminalreporter.section("ratios to peers, measured in turns (below 1 is faster)")
    for bench in rows:
        info = bench.extra_info
        low, high = min(info["ratios"]), max(info["ratios"])
        terminalreporter.write_line(
            f"{bench.name:<60} {info['ratio_to_peer']:.3f} × {info['peer']} ({low:.3f} to {high:.3f})"
        )
