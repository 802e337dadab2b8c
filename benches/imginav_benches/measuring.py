"""How it is measured: passes after warming up, alone or in turns with a peer, and the memory that they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from attrs import frozen

from imginav.training.device import Device
from imginav_evaluation.cost import LiveBytes

Work = Callable[[], object]

Scaled = Callable[[int], int]
"""Takes a size in pixels or a number of layouts, and returns the one that is measured."""


@frozen
class Pace:
    """For how long something is measured."""

    seconds: float  # of passes, within these bounds
    fewest: int
    most: int
    turns: int  # with a peer
    few_turns: int  # where each takes seconds

    def passes(self, once: float) -> int:
        """Return how many passes fit, of which one took so many seconds."""
        return max(self.fewest, min(self.most, int(self.seconds / max(once, 1e-9))))


THOROUGH = Pace(seconds=1.0, fewest=5, most=100, turns=5, few_turns=2)
QUICK = Pace(seconds=0.3, fewest=2, most=20, turns=2, few_turns=1)


def as_it_is(size: int) -> int:
    """Measure what is to be measured."""
    return size


def tiny(size: int) -> int:
    """Take an eighth of it: enough to see whether a bench runs."""
    return size // 8


def measure_passes(benchmark: Any, work: Work, base: Work, pace: Pace) -> None:
    """Time passes of `work` in turns with passes of `base`, after two of each that are not timed."""
    first = _seconds(work)
    once = _seconds(work) + _seconds(base)
    measure_in_turns(benchmark, work, base, rounds=pace.passes(once), peer="base")
    benchmark.extra_info |= {"first_pass_seconds": first}
    if benchmark.stats:
        benchmark.extra_info |= {"p95_seconds": float(np.percentile(benchmark.stats.stats.data, 95))}


def measure_in_turns(benchmark: Any, ours: Work, theirs: Work, *, rounds: int, peer: str) -> None:
    """Time `ours` and a peer in turns, so that both meet the same noise; the ratio is that of their sums."""
    peer_seconds: list[float] = []
    benchmark.pedantic(ours, setup=lambda: peer_seconds.append(_seconds(theirs)), rounds=rounds, warmup_rounds=1)
    if not benchmark.stats:
        return
    own, other = benchmark.stats.stats.data, peer_seconds[-rounds:]  # without the warm-up
    benchmark.extra_info |= {
        "peer": peer,
        "ratio_to_peer": sum(own) / sum(other),
        "ratios": [a / b for a, b in zip(own, other, strict=True)],
        "peer_seconds": other,
    }


def peak_bytes_of(work: Work, device: Device) -> int:
    """Return the bytes alive at a time during one pass, beyond those before it.

    On a GPU it is what torch's allocator says; on a CPU, what the tensors take that are made on the way.
    """
    if device.device.type == "cuda":
        device.wait()
        torch.cuda.reset_peak_memory_stats(device.device)
        before = torch.cuda.memory_allocated(device.device)
        work()
        device.wait()
        return torch.cuda.max_memory_allocated(device.device) - before
    with LiveBytes() as live:
        made = work()
    return live.peak if made is not None else 0


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
