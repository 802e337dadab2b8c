"""What the trainer with its callbacks costs beside a bare training loop written by hand: a step, and an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from imginav.manifest import loading
from imginav.manifest.tables import Machine
from imginav.plugin import registry
from imginav.runs.experiment import build_trainer
from imginav.runs.run_folder import RunFolder
from imginav.training.device import open_device
from imginav.training.trainer import Trainer
from imginav_benches import measure_in_turns
from imginav_benches.bare_loop import BareLoop
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
    trainer = build_trainer(resolved, log=lambda _: None)
    run = RunFolder(folder / "own" / "run", folder / "shared" / "group", "run")
    run.begin()
    trainer.hooks.run_started(trainer, run, resolved)
    return trainer


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
