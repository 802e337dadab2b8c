"""How long a person waits for an answer."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest


@pytest.mark.benchmark(group="start")
def test_help(benchmark: Any) -> None:
    command = [sys.executable, "-m", "imginav", "--help"]
    benchmark.pedantic(lambda: subprocess.run(command, capture_output=True, check=True), rounds=10, warmup_rounds=1)
