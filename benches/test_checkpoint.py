"""How long saving and loading a checkpoint take, and how large it is, as the network grows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from imginav.manifest.loading import load
from imginav.plugin.checkpoint import Checkpoint, load_checkpoint
from imginav.plugin.registry import installed
from imginav.runs.experiment import build_trainer
from imginav_benches.subjects import FINAL


@pytest.fixture(params=[16, 32, 64], ids=lambda width: f"width{width}")
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    """What a run goes on from: weights, and the optimizer's state after a step."""
    settings = [f"encoder.base_channels={request.param}", "data.count=8", "data.crop=64"]
    settings += ["machine.device=cpu", "machine.cache=false"]
    resolved = load(FINAL, installed(), settings=settings, scale="full", use_site=False)
    trainer = build_trainer(resolved, log=lambda _: None)
    trainer.train_step(trainer.device.batch(next(iter(trainer.data.train_batches(1)))))
    return Checkpoint(
        model=trainer.model.state_dict(),
        epoch=1,
        metrics={},
        manifest=resolved.to_toml(),
        origins=resolved.origins,
        training=trainer.state_dict(),
    )


@pytest.mark.benchmark(group="checkpoint")
def test_save(checkpoint: Checkpoint, tmp_path: Path, benchmark: Any, interleaved: Callable[..., None]) -> None:
    """Whole or not at all, with a digest and flushed to the disk, beside torch.save of the same tensors."""
    path = tmp_path / "ours.pt"
    content = {"model": checkpoint.model, "training": checkpoint.training}
    interleaved(lambda: checkpoint.save(path), lambda: torch.save(content, tmp_path / "peer.pt"), peer="torch.save")
    benchmark.extra_info["bytes"] = path.stat().st_size


@pytest.mark.benchmark(group="checkpoint")
def test_load(checkpoint: Checkpoint, tmp_path: Path, benchmark: Any, interleaved: Callable[..., None]) -> None:
    """With the digest verified, beside torch.load."""
    path = tmp_path / "ours.pt"
    checkpoint.save(path)
    interleaved(
        lambda: load_checkpoint(path), lambda: torch.load(path, weights_only=True), peer="torch.load, weights_only"
    )
    benchmark.extra_info["bytes"] = path.stat().st_size
