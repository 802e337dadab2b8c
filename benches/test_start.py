"""How long a person waits for an answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from imginav_benches.subjects import FINAL


def program(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], capture_output=True, check=True)


@pytest.mark.benchmark(group="start")
def test_help(interleaved: Callable[..., None]) -> None:
    interleaved(program("-m", "imginav", "--help"), program("-c", "pass"), peer="python -c pass")


@pytest.mark.benchmark(group="start")
@pytest.mark.parametrize("command", [("check", str(FINAL)), ("plugins",)], ids=["check", "plugins"])
def test_command(
    command: tuple[str, ...], interleaved_briefly: Callable[..., None], pytestconfig: pytest.Config
) -> None:
    if pytestconfig.option.quick and command[0] != "check":
        pytest.skip("--quick: takes seconds")
    interleaved_briefly(program("-m", "imginav", *command), program("-c", "import torch"), peer="import torch")


@pytest.mark.benchmark(group="start")
def test_loading_a_phase(benchmark: Any) -> None:
    from imginav.manifest.loading import load_phase
    from imginav.plugin.registry import installed

    registry = installed()
    resolved = benchmark(lambda: load_phase(FINAL, registry, use_site=False))
    assert len(resolved.experiments) == 1
