"""Which checkpoints a run leaves, and what they hold."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

from imginav import hookimpl
from imginav.plugin.checkpoint import Checkpoint, load_checkpoint
from imginav_callbacks import EMA, Checkpointing, EarlyStopping
from imginav_tests.weights import WeightsOfEachEpoch, same_weights

MakeRun = Callable[..., Any]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_best_and_the_latest_are_kept(make_run: MakeRun) -> None:
    kept = WeightsOfEachEpoch()
    run = make_run({"checkpoint": Checkpointing()}, {"kept": kept}, epochs=3)
    run.fit([3.0, 1.0, 2.0])
    assert names(run.folder.root) == [f"tiny_checkpoint_{name}.pt" for name in ("best", "latest", "previous")]
    best, latest = load_checkpoint(run.folder.best_checkpoint), load_checkpoint(run.folder.latest_checkpoint)
    assert (best.epoch, best.metrics["val_loss"]) == (2, 1.0)
    assert (latest.epoch, latest.metrics["val_loss"]) == (3, 2.0)
    assert same_weights(best.model, kept.weights[2])
    assert same_weights(latest.model, kept.weights[3])
    assert not same_weights(best.model, latest.model)


def test_a_checkpoint_says_what_it_came_from(make_run: MakeRun) -> None:
    run = make_run({"checkpoint": Checkpointing()}, epochs=1)
    trainer = run.fit()
    for path in (run.folder.best_checkpoint, run.folder.latest_checkpoint):
        checkpoint = load_checkpoint(path)
        assert checkpoint.metrics == trainer.history[0]
        assert checkpoint.manifest == run.resolved.to_toml()
        assert checkpoint.origins == {"phase.experiment": "tiny.toml"}
        assert checkpoint.spec == trainer.data.source.spec  # so that it loads where its layouts are not


def test_the_latest_holds_all_that_a_restart_needs_and_the_best_does_not(make_run: MakeRun) -> None:
    callbacks = {"checkpoint": Checkpointing(), "early_stopping": EarlyStopping(patience=4), "ema": EMA()}
    run = make_run(callbacks, epochs=2)
    trainer = run.fit([1.0, 2.0])
    assert "training" not in torch.load(run.folder.best_checkpoint, weights_only=True)
    training = torch.load(run.folder.latest_checkpoint, weights_only=True)["training"]
    assert (training["epoch"], training["step"]) == (2, 4)
    assert training["history"] == trainer.history
    assert set(training["optimization"]) == {"optimizer", "schedule", "scaler"}
    # It is written after all others have seen the epoch.
    assert training["callbacks"]["early_stopping"]["waited"] == 1
    assert training["callbacks"]["ema"]["steps"] == 4
    assert training["best"]["epoch"] == 1


def test_the_names_of_the_weights_do_not_depend_on_compilation(make_run: MakeRun) -> None:
    run = make_run({"checkpoint": Checkpointing()}, epochs=1)
    # Marked to be compiled, which would happen in the first step; none is taken, because it takes long.
    run.trainer.model.encoder.compile(backend="eager")
    run.trainer.model.decoder.compile(backend="eager")
    run.start()
    row = {"epoch": 1.0, "val_loss": 1.0}
    run.trainer.history.append(row)
    run.trainer.best.see(row, 1)
    run.trainer.hooks.epoch_finished(run.trainer, row)
    saved = [load_checkpoint(path).model for path in (run.folder.best_checkpoint, run.folder.latest_checkpoint)]
    plain = make_run()
    for weights in saved:
        assert not [name for name in weights if "_orig_mod" in name]
        plain.trainer.model.load_state_dict(weights)


@pytest.mark.parametrize(
    ("config", "numbered"),
    [
        (Checkpointing(every=2), [2, 4]),
        (Checkpointing(every=1, keep=2), [4, 5]),
        (Checkpointing(every=3, keep=5), [3]),
        (Checkpointing(every=9), []),
    ],
)
def test_numbered_checkpoints_are_written_every_few_epochs_and_the_newest_kept(
    make_run: MakeRun, config: Checkpointing, numbered: list[int]
) -> None:
    run = make_run({"checkpoint": config}, epochs=5, batch_size=8)
    run.fit([5.0, 4.0, 3.0, 2.0, 1.0])
    assert run.folder.numbered_checkpoints() == [run.folder.numbered_checkpoint(epoch) for epoch in numbered]
    assert [load_checkpoint(path).epoch for path in run.folder.numbered_checkpoints()] == numbered
    assert all(load_checkpoint(path).training for path in run.folder.numbered_checkpoints())


def test_without_any_number_there_is_no_best(make_run: MakeRun) -> None:
    run = make_run({"checkpoint": Checkpointing()}, epochs=1)
    run.fit([float("nan")])
    assert names(run.folder.root) == ["tiny_checkpoint_latest.pt"]


def test_the_best_checkpoint_and_the_restored_weights_are_the_same(make_run: MakeRun) -> None:
    callbacks = {"checkpoint": Checkpointing(), "early_stopping": EarlyStopping(patience=2, min_delta=1e-4)}
    run = make_run({**callbacks, "ema": EMA(decay=0.5)}, epochs=9)
    trainer = run.fit([1e-4, 0.9e-4, 0.95e-4])
    assert trainer.epoch == 3
    best = load_checkpoint(run.folder.best_checkpoint)
    assert best.epoch == trainer.weights_epoch == 2
    assert same_weights(best.model, trainer.model.state_dict())


def test_within_an_epoch_the_latest_is_written_every_few_minutes(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    places: list[tuple[int, int | None]] = []
    real = Checkpoint.save

    def save(self: Checkpoint, path: Path, **options: Any) -> None:
        if path.name.endswith("latest.pt"):
            assert self.training
            places.append((self.epoch, self.training["tally"] and self.training["tally"]["batches"]))
        real(self, path, **options)

    class Clock:
        @hookimpl(tryfirst=True)
        def step_finished(self) -> None:
            clock[0] += 40

    monkeypatch.setattr(Checkpoint, "save", save)
    make_run({"checkpoint": Checkpointing(minutes=2)}, {"clock": Clock()}, batch_size=1).fit()
    # Six steps of 40 s make an epoch; two minutes are over after the third, and again after the sixth.
    assert places == [(1, 3), (1, 6), (1, None), (2, 3), (2, 6), (2, None)]


def test_the_same_place_is_not_written_twice(make_run: MakeRun) -> None:
    run = make_run({"checkpoint": Checkpointing()}, epochs=1)
    trainer = run.fit()
    before = run.folder.latest_checkpoint.stat().st_ino
    trainer.hooks.training_interrupted(trainer)
    assert run.folder.latest_checkpoint.stat().st_ino == before


@pytest.mark.parametrize("how", ["missing", "damaged", "of another epoch", "of another attempt"])
def test_a_best_checkpoint_that_is_not_the_best_is_mended_when_the_weights_are_at_hand(
    make_run: MakeRun, how: str
) -> None:
    run = make_run({"checkpoint": Checkpointing()}, epochs=2)
    trainer = run.fit([2.0, 1.0])
    best = load_checkpoint(run.folder.best_checkpoint)
    if how == "missing":
        run.folder.best_checkpoint.unlink()
    elif how == "damaged":
        run.folder.best_checkpoint.write_bytes(b"half")
    else:
        other = {"epoch": 1} if how == "of another epoch" else {"metrics": {**best.metrics, "val_loss": 0.5}}
        evolve(best, **other).save(run.folder.best_checkpoint)
    trainer.hooks.training_finished(trainer)
    mended = load_checkpoint(run.folder.best_checkpoint)
    assert (mended.epoch, mended.metrics) == (2, best.metrics)
    assert same_weights(mended.model, best.model)


@pytest.mark.parametrize("keys", [{"every": 0}, {"keep": 0}])
def test_a_count_below_one_is_refused(keys: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected a number of at least 1, found 0"):
        Checkpointing(**keys)
