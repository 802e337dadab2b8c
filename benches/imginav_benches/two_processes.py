"""Two processes of this machine that train together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from imginav.data.batches import layouts_in
from imginav.manifest.loading import load
from imginav.plugin.registry import installed
from imginav.processes import distributed
from imginav.processes.stop_request import StopRequest
from imginav.runs.experiment import build_trainer
from imginav_benches.bare_loop import BareLoop
from imginav_benches.subjects import FINAL

SETTINGS = ["train.batch_size=8", "machine.device=cpu", "train.optimizer={ type = 'adamw' }"]

STEPS_A_TURN = 4


@contextmanager
def as_process(rank: int, port: int) -> Iterator[distributed.World]:
    """Be one of two processes, each with half of the cores."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    before, threads = dict(os.environ), torch.get_num_threads()
    os.environ |= {**{name: str(value) for name, value in told.items()}, "MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(max(1, threads // 2))
    try:
        with distributed.joined(StopRequest()) as world:
            yield world
    finally:
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ |= before


def turns(world: distributed.World, folder: Path, data: Sequence[str]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return steps of imginav's trainer and of the bare loop on this process's rows of the same batch.

    `data` are settings of the layouts.
    """
    places = [f"{key}={folder}/{world.rank}" for key in ("output.experiments", "output.shared", "machine.cache")]
    observers = [f"callbacks.{name}=false" for name in ("checkpoint", "metrics_csv", "progress", "samples")]
    resolved = load(FINAL, installed(), settings=[*SETTINGS, *data, *places, *observers], scale="full", use_site=False)
    trainer = build_trainer(resolved, log=lambda _: None, world=world)
    trainer.model.train()
    trainer.connect()
    bare = BareLoop(trainer, resolved.manifest.train, folder / "bare.pt")
    bare.model = DistributedDataParallel(bare.model)
    bare.model.train()
    layouts = next(iter(trainer.data.train_batches(1)))

    def own() -> None:
        for _ in range(STEPS_A_TURN):
            shard = world.shard(layouts_in(layouts))
            trainer.train_step(trainer.device.batch(layouts), shard)
            world.any("")

    def peer() -> None:
        for _ in range(STEPS_A_TURN):
            bare.step(layouts)

    return own, peer


def follow(port: int, folder: Path, data: Sequence[str]) -> None:
    """Be the second process: take the turns that the first one names."""
    with as_process(1, port) as world:
        own, peer = turns(world, folder, data)
        while turn := world.broadcast(""):
            (own if turn == "own" else peer)()
