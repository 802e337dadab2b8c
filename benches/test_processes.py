"""What a training step of two processes costs beside a bare DistributedDataParallel loop, on the same two processes."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imginav_benches.measuring import Scaled
from imginav_benches.two_processes import STEPS_A_TURN, as_process, follow, turns


@pytest.mark.benchmark(group="a training step of two processes")
def test_steps_of_two_processes(
    tmp_path: Path, benchmark: Any, interleaved: Callable[..., None], scaled: Scaled
) -> None:
    """Four at a time, by gloo on this machine's CPU: gradients, loss terms, and what the processes agree on."""
    data = [f"data.count={scaled(64)}", f"data.image_size={scaled(512)}", f"data.crop={scaled(128)}"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    second = multiprocessing.get_context("spawn").Process(target=follow, args=(port, tmp_path, data))
    second.start()
    with as_process(0, port) as world:
        own, peer = turns(world, tmp_path, data)

        def turn(name: str, steps: Callable[[], None]) -> None:
            world.broadcast(name)
            steps()

        benchmark.extra_info["images"] = STEPS_A_TURN * 8
        interleaved(lambda: turn("own", own), lambda: turn("peer", peer), peer="a bare DDP loop")
        world.broadcast("")
    second.join(30)
    assert second.exitcode == 0
