"""What the trainer with its callbacks costs beside a bare training loop written by hand: a step, and an epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from imginav import loading, registry
from imginav.device import open_device
from imginav.manifest import Machine
from imginav.run import build_trainer
from imginav.rundir import RunFolder
from imginav.trainer import Trainer
from imginav_benches import measure_in_turns
from imginav_benches.subjects import FINAL

EPOCHS = {
    # As the trial trains: crops of 128 pixels, validated on whole layouts.
    "cpu": ["data.crop=128", "train.split=0.95", "train.batch_size=8"],
    # As the full phase trains: whole layouts of 512 pixels in bf16, loaded by worker processes.
    "cuda": ["train.split=0.96"],
}

COUNTS = {"cpu": {"short": 120, "long": 480}, "cuda": {"short": 500, "long": 2000}}
"""Layouts of an epoch; the long one on a CPU is the trial's."""

STEPS = {"cpu": ["data.count=64", "data.crop=64"], "cuda": ["data.count=64"]}

STEPS_MEASURED = [(8, 32), (4, 32), (16, 32), (8, 16), (8, 64)]
"""Layouts in a batch, and the network's width: each changed alone."""

STEPS_A_TURN = 4


def open_trainer(settings: Sequence[str], folder: Path) -> Trainer:
    """Return the trainer of phase 1.5 with all of its default callbacks, in a run that has started."""
    # Neither bounds nor patience may end an endless run.
    endless = ["train.epochs=1000", "callbacks.early_stopping.patience=1000000"]
    output = [f"output.experiments={folder}/own", f"output.shared={folder}/shared"]
    resolved = loading.load(
        FINAL, registry.installed(), settings=[*output, *endless, *settings], scale="full", use_site=False
    )
    trainer = build_trainer(resolved, say=lambda _: None)
    run = RunFolder(folder / "own" / "run", folder / "shared" / "group", "run")
    run.begin()
    trainer.hooks.run_started(trainer, run, resolved)
    return trainer


class BareLoop:
    """The same model, data, losses and optimizer, in the fewest lines that a researcher would write."""

    def __init__(self, trainer: Trainer, path: Path) -> None:
        self.device = trainer.device.device
        self.dtype = trainer.device.dtype
        # Not one more of the trainer's modules, which callbacks may have changed.
        self.model = copy.deepcopy(trainer.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
        # The same batches: what is compared is the loop, not the reading of layouts.
        self.data = trainer.data
        self.path = path

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        images = batch["rgb"].to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 127.5 - 1
        classes = batch["segmentation"].to(self.device, non_blocking=True).long()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            outputs = self.model(images)
        rgb, segmentation = outputs["rgb"].float(), outputs["segmentation"].float()
        return F.mse_loss(rgb, images) + 0.05 * F.cross_entropy(segmentation, classes)

    def step(self, batch: dict[str, Tensor]) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()

    def epoch(self) -> None:
        self.model.train()
        for batch in self.data.train_batches(1):
            self.step(batch)
        self.model.eval()
        with torch.no_grad():
            for batch in self.data.validation_batches():
                self.loss(batch).item()
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, self.path)


@pytest.fixture
def device_type(pytestconfig: pytest.Config) -> str:
    return open_device(Machine(device=pytestconfig.option.device)).device.type


@pytest.mark.benchmark(group="a training step")
@pytest.mark.parametrize(
    ("batch", "width"),
    [pytest.param(batch, width, id=f"{batch} of width {width}") for batch, width in STEPS_MEASURED],
)
def test_steps(
    batch: int, width: int, device_type: str, tmp_path: Path, benchmark: Any, interleaved: Callable[..., None]
) -> None:
    """Four at a time, with what callbacks do at each; how it grows with the batch and the network's width."""
    own = [f"train.batch_size={batch}", f"encoder.base_channels={width}", f"machine.device={device_type}"]
    trainer = open_trainer([*STEPS[device_type], *own], tmp_path)
    bare = BareLoop(trainer, tmp_path / "bare.pt")
    layouts = next(iter(trainer.data.train_batches(1)))
    trainer.model.train()
    bare.model.train()
    trainer.hooks.epoch_started(trainer, 1)

    def steps() -> None:
        for _ in range(STEPS_A_TURN):
            terms = trainer.train_step(trainer.device.batch(layouts))
            trainer.hooks.step_finished(trainer, terms)
        trainer.device.wait()

    benchmark.extra_info["images"] = STEPS_A_TURN * batch
    interleaved(steps, lambda: [bare.step(layouts) for _ in range(STEPS_A_TURN)], peer="a bare PyTorch loop")
    trainer.data.close()


@pytest.mark.benchmark(group="a training epoch")
@pytest.mark.parametrize("length", ["short", "long"])
def test_an_epoch(
    length: str,
    device_type: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    benchmark: Any,
    pytestconfig: pytest.Config,
) -> None:
    """With all default callbacks, validation and checkpoints beside the same written by hand.

    Checkpoints and samples take as long after a short epoch as after a long one.
    """
    if pytestconfig.option.quick:
        pytest.skip("--quick: five turns take over a minute on two cores")
    if length == "long" and not pytestconfig.option.grid:
        pytest.skip("five turns take eight minutes on two cores; --grid takes them")
    count = COUNTS[device_type][length]
    trainer = open_trainer([*EPOCHS[device_type], f"data.count={count}", f"machine.device={device_type}"], tmp_path)
    # Each round is an epoch of one run, and the run does not end between them.
    monkeypatch.setattr(trainer.hooks, "training_finished", lambda _: None)
    bare = BareLoop(trainer, tmp_path / "bare.pt")

    def one_epoch() -> None:
        trainer.epochs = trainer.epoch + 1
        trainer.fit()

    benchmark.extra_info["images"] = len(trainer.data.split.train)
    # Five, because every fifth epoch draws the samples.
    measure_in_turns(benchmark, one_epoch, bare.epoch, rounds=5, peer="a bare PyTorch loop")
    trainer.data.close()
