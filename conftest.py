"""How tests and benches are run: tests on all cores, benches one after the other in a single process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of test processes: none for benches, which need the machine, nor for what is over at once."""
    chosen = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    if any(path.is_relative_to(ROOT / "benches") for path in chosen) or all(path.is_file() for path in chosen):
        return 0
    return len(os.sched_getaffinity(0)) + 1  # some tests wait for a scheduler or a time limit


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each test process run its share of the slow tests first, so that no slow one is left for the end.

    xdist gives each process an equal share of consecutive tests. Tests that wait for a scheduler are all in the first
    share, so that the other processes keep the cores busy.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    waiting = [item for item in items if item.get_closest_marker("waits")]
    slow = [item for item in items if item.get_closest_marker("slow") and item not in waiting]
    fast = [item for item in items if item not in waiting and item not in slow]
    shares = [slow[process::processes] for process in range(processes)]
    shares[0] = waiting + shares[0]
    for left, share in zip(range(processes, 0, -1), shares, strict=True):
        more = max(0, sum(map(len, [fast, *shares[-left:]])) // left - len(share))
        share += fast[:more]
        del fast[:more]
    items[:] = [item for share in shares for item in share]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", 0) or hasattr(config, "workerinput"):
        config.option.benchmark_disable = True  # pytest-benchmark would do so itself, and warn
