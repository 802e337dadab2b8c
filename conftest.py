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
    return len(os.sched_getaffinity(0)) + 1  # some tests wait for a scheduler, or until a time is up


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no process is left with it alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", 0) or hasattr(config, "workerinput"):
        config.option.benchmark_disable = True  # pytest-benchmark would do so itself, and warn
