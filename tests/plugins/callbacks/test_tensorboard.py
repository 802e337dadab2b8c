"""The events for TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from imginav import UserError
from imginav.training.trainer import EpochTotals
from imginav_callbacks import Samples, TensorBoard

MakeRun = Callable[..., Any]


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow to import

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_each_epochs_metrics_are_written(make_run: MakeRun) -> None:
    run = make_run({"tensorboard": TensorBoard()}, epochs=2)
    trainer = run.fit()
    written = events(run.folder.root / "tensorboard")
    tags = {"train/loss", "train/loss_mse", "val/loss_segmentation_weighted", "val/psnr_db", "learning_rate"}
    assert tags <= set(written.Tags()["scalars"])
    assert "epoch" not in written.Tags()["scalars"]
    seen = [(event.step, event.value) for event in written.Scalars("val/mse")]
    assert [step for step, _ in seen] == [1, 2]
    assert [value for _, value in seen] == pytest.approx([row["val_mse"] for row in trainer.history])


def test_where_a_run_goes_on_within_an_epoch_that_epoch_is_not_shown_twice(make_run: MakeRun) -> None:
    run, resumed = (make_run({"tensorboard": TensorBoard()}, epochs=2) for _ in range(2))
    run.fit()
    trainer = resumed.trainer
    trainer.epoch, trainer.totals = 2, EpochTotals(learning_rate=1e-2)
    trainer.history.append(run.trainer.history[0])
    resumed.fit()
    assert [event.step for event in events(run.folder.root / "tensorboard").Scalars("val/mse")] == [1, 2]


def test_sample_pictures_are_written_whichever_callback_stands_first(make_run: MakeRun) -> None:
    callbacks = {"tensorboard": TensorBoard(), "samples": Samples(every=2, count=1, tile=16)}
    for order in (callbacks, dict(reversed(callbacks.items()))):
        run = make_run(order, epochs=3)
        run.fit()
        assert [image.step for image in events(run.folder.root / "tensorboard").Images("samples")] == [2]


def test_where_a_run_goes_on_no_epoch_is_shown_twice(make_run: MakeRun) -> None:
    run = make_run({"tensorboard": TensorBoard()}, epochs=3)
    trainer = run.fit()
    # It goes on after the first epoch.
    del trainer.history[1:]
    trainer.epoch = 1
    run.fit()
    written = events(run.folder.root / "tensorboard").Scalars("val/mse")
    assert [event.step for event in written] == [1, 2, 3]
    assert [event.value for event in written[1:]] == pytest.approx([row["val_mse"] for row in trainer.history[1:]])


def test_a_missing_package_is_said_before_the_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    message = r"callbacks.tensorboard needs the package tensorboard, .* pip install 'imginav\[tensorboard\]', or leave"
    with pytest.raises(UserError, match=message):
        make_run({"tensorboard": TensorBoard()})
