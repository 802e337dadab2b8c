"""A run goes on where it was, and ends as if nothing had been."""

from __future__ import annotations

import csv
import errno
import math
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imginav import LayoutSource, UserError, files, hookimpl
from imginav.data.loader import Data, split_as
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.checkpoint import load_checkpoint, sha256_of
from imginav.plugin.components import Sample
from imginav.plugin.discovery import DISABLE
from imginav.processes.distributed import World
from imginav.processes.stop_request import Interrupted, StopRequest
from imginav.runs.evaluation_result import EvaluationResult
from imginav.runs.experiment import run_experiment, run_folder
from imginav.runs.records import Recorder, load_record
from imginav.runs.run_folder import RunFolder
from imginav.seeds import Seeds
from imginav.training.trainer import Trainer
from imginav_tests.examples import examples
from imginav_tests.foreign_plugins import left_out

pytestmark = pytest.mark.usefixtures("no_pages")

Resolve = Callable[..., ResolvedManifest]
MakeTrainer = Callable[..., Trainer]

TIMES = {"seconds", "images_per_second"}

ALL = (
    "encoder.variational=true",
    "losses.kld.weight=1e-3",
    "train.epochs=4",
    "train.lr_schedule={ type = 'cosine', warmup = 0.1 }",
    "callbacks.gradient_clipping={}",
    "callbacks.early_stopping.patience=9",
    "callbacks.ema={ decay = 0.9 }",
    "callbacks.metrics_csv={}",
    "callbacks.checkpoint={ every = 2 }",
)
"""Everything that has a state."""

BOUNDARIES = 4 * (3 + 1 + 1)
"""Of a run of the tiny phase: each epoch has three steps, one batch of validation, and an end."""


class Asking(StopRequest):
    """Asks the run to leave at its nth boundary."""

    def __init__(self, boundary: int) -> None:
        super().__init__()
        self.left = boundary

    def check(self, *, advanced: bool) -> str:
        self.left -= 1
        if self.left == 0:
            self.ask("asked")
        return super().check(advanced=advanced)


def timeless(value: Any) -> Any:
    """Return what a checkpoint holds without the times in it, and without the text of the manifest."""
    if isinstance(value, Mapping):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, (list, tuple)) else value


def result(folder: RunFolder) -> dict[str, Any]:
    """Return all that a run leaves and that must not depend on where it was interrupted."""
    found: dict[str, Any] = {}
    for path in sorted(folder.root.glob("*_checkpoint_*.pt")):
        checkpoint = load_checkpoint(path)
        content = [checkpoint.model, checkpoint.epoch, timeless(checkpoint.metrics), timeless(checkpoint.training)]
        if path != folder.previous_checkpoint:
            found[path.name] = sha256_of(content)
    found["rows"] = rows(folder)
    return found


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with folder.metrics.open(newline="") as stream:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(stream)]


def run(resolved: ResolvedManifest, **options: Any) -> tuple[EvaluationResult, list[str]]:
    lines: list[str] = []
    return run_experiment(resolved, lines.append, timed=False, **options), lines


def leave(resolved: ResolvedManifest, boundary: int, **options: Any) -> list[str]:
    """Train until a boundary; return what was said."""
    lines: list[str] = []
    with pytest.raises(Interrupted, match="asked"):
        run_experiment(resolved, lines.append, timed=False, stop_request=Asking(boundary), **options)
    return lines


@pytest.fixture(scope="module")
def unbroken() -> dict[str, Any]:
    """What the run of `ALL` leaves; filled by the first test that needs it."""
    return {}


@pytest.fixture
def reference(unbroken: dict[str, Any], resolve: Resolve, tmp_path: Path) -> dict[str, Any]:
    if not unbroken:
        resolved = resolve(*ALL, f"output.experiments='{tmp_path}/unbroken'")
        run(resolved)
        unbroken |= result(run_folder(resolved))
    return unbroken


@settings(max_examples=examples(8, quick=3), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(1, BOUNDARIES), second=st.integers(1, BOUNDARIES))
def test_a_run_that_leaves_anywhere_ends_as_if_it_had_not(
    resolve: Resolve, tmp_path: Path, reference: dict[str, Any], first: int, second: int
) -> None:
    resolved = resolve(*ALL, f"output.experiments='{tmp_path}/{first}_{second}_{random.random()}'")  # noqa: S311
    folder = run_folder(resolved)
    leave(resolved, first)
    record = load_record(folder.record)
    assert record is not None
    assert (record.state, record.error) == ("interrupted", "asked")
    if first + second <= BOUNDARIES:
        leave(resolved, second)
    _, lines = run(resolved)
    assert any(line.startswith("tiny was interrupted: it goes on ") for line in lines)
    assert result(folder) == reference
    record = load_record(folder.record)
    assert record is not None
    assert (record.state, record.epoch) == ("finished", 4)


def test_a_run_that_leaves_while_its_best_weights_are_evaluated_keeps_its_last_ones(resolve: Resolve) -> None:
    # By the training's loss, the more the better, the first epoch is the best.
    settings = [*ALL, "train.monitor=train_loss", "train.monitor_mode=max"]
    whole, broken = (resolve(*settings, f"phase.experiment={name}") for name in ("whole", "broken"))
    run(whole)
    for _ in range(2):
        leave(broken, BOUNDARIES + 1 if not run_folder(broken).latest_checkpoint.exists() else 1)
    run(broken)
    mended, reference = result(run_folder(broken)), result(run_folder(whole))
    assert list(mended.values()) == list(reference.values())
    assert load_checkpoint(run_folder(broken).best_checkpoint).epoch == 1


def test_with_loading_processes_it_is_the_same(resolve: Resolve, reference: dict[str, Any]) -> None:
    resolved = resolve(*ALL, "machine.workers=1")
    leave(resolved, 7)
    run(resolved)
    assert result(run_folder(resolved)) == reference


class Killer:
    """Kills the loading process in some step."""

    @hookimpl
    def step_finished(self, trainer: Trainer) -> None:
        if trainer.step == 4:
            for process in multiprocessing.active_children():
                assert process.pid
                os.kill(process.pid, signal.SIGKILL)
                process.join()


def test_a_loading_process_that_is_killed_ends_the_run_which_goes_on(
    resolve: Resolve, reference: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolve(*ALL, "machine.workers=1")
    add = Trainer.fit

    def fit(self: Trainer, stop_request: StopRequest) -> None:
        self.hooks.add("killer", Killer())
        add(self, stop_request)

    monkeypatch.setattr(Trainer, "fit", fit)
    with pytest.raises(UserError, match=r"a loading process was ended from outside.*: take fewer machine.workers, and"):
        run(resolved)
    monkeypatch.undo()
    run(resolved)
    assert result(run_folder(resolved)) == reference


def test_a_gpu_with_too_little_memory_is_one_sentence(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of …")

    monkeypatch.setattr(Trainer, "train_step", step)
    with pytest.raises(UserError, match=r"too little memory \(CUDA out of memory\): compute each batch in parts with"):
        run(resolve(*ALL))


def test_what_was_read_before_is_not_read_again(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = resolve(*ALL, "train.epochs=1", "machine.workers=0")
    read: list[int] = []
    source = type(resolved.manifest.data.open())
    real = source.read
    monkeypatch.setattr(source, "read", lambda self, index: (read.append(index), real(self, index))[1])
    leave(resolved, 2)
    before = read.copy()
    assert len(before) == 2 * 4  # batches of four
    read.clear()
    run(resolved)
    assert len(set(read[:4]) | set(before)) == 12
    assert not set(read[:4]) & set(before)


class Drawing:
    """A callback of a plugin that draws from what all share, and pushes the weights by it."""

    @hookimpl
    def gradients_ready(self, trainer: Trainer) -> None:
        # What it draws from is what is tested.
        push = torch.rand(()).item() + np.random.rand() + random.random()  # noqa: NPY002, S311
        for parameter in trainer.model.parameters():
            assert parameter.grad is not None
            parameter.grad += push


class Noting:
    """A callback of a plugin that notes what it draws from what all share."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def draw(self) -> None:
        self.drawn += [torch.rand(()).item(), np.random.rand(), random.random()]  # noqa: NPY002, S311  # as above

    @hookimpl
    def epoch_started(self) -> None:
        self.draw()

    @hookimpl
    def step_finished(self) -> None:
        self.draw()

    @hookimpl
    def validation_started(self) -> None:
        self.draw()


class Second(World):
    rank = 1


def test_each_step_and_each_process_draws_other_numbers(make_trainer: MakeTrainer) -> None:
    first, second = Noting(), Noting()
    make_trainer(callbacks={"noting": first}).fit()
    other = make_trainer(callbacks={"noting": second})
    other.device = evolve(other.device, world=Second())
    other.fit()
    assert len(first.drawn) == 3 * 2 * (1 + 3 + 1)
    assert len({*first.drawn, *second.drawn}) == 2 * len(first.drawn)


@pytest.mark.parametrize("boundary", [1, 4])
def test_the_generators_that_all_share_go_on(make_trainer: MakeTrainer, tmp_path: Path, boundary: int) -> None:
    whole = make_trainer(callbacks={"drawing": Drawing()})
    whole.fit()
    broken = make_trainer(callbacks={"drawing": Drawing()})
    with pytest.raises(Interrupted):
        broken.fit(Asking(boundary))
    torch.save({"model": broken.model.state_dict(), "training": broken.state_dict()}, tmp_path / "state.pt")
    for draw in (torch.rand, np.random.rand):  # as above
        draw(5)
    random.seed(0)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = make_trainer(callbacks={"drawing": Drawing()})
    resumed.model.load_state_dict(state["model"])
    resumed.load_state_dict(state["training"])
    resumed.fit()
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut off":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    else:  # a bit of the weights, which torch itself does not notice
        weights = load_checkpoint(path).model["encoder.levels.0.0.weight"].untyped_storage().tolist()
        content[content.index(bytes(weights)) + 5] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut off", "empty", "one bit"])
def test_a_damaged_latest_checkpoint_falls_back_to_the_one_before(
    resolve: Resolve, reference: dict[str, Any], how: str
) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    leave(resolved, 12)
    damage(folder.latest_checkpoint, how)
    _, lines = run(resolved)
    warning = next(line for line in lines if line.startswith("warning: "))
    assert str(folder.latest_checkpoint) in warning
    assert warning.endswith(f"; falls back to {folder.previous_checkpoint}")
    assert result(folder) == reference


def test_a_damaged_checkpoint_never_takes_the_place_of_a_whole_one(resolve: Resolve) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    leave(resolved, 12)
    damage(folder.latest_checkpoint, "cut off")
    leave(resolved, 1)
    for path in (folder.latest_checkpoint, folder.previous_checkpoint):
        assert load_checkpoint(path).training
    assert folder.latest_checkpoint.with_name(f"{folder.latest_checkpoint.name}.1").exists()


def test_of_damaged_checkpoints_a_numbered_one_is_the_last_resort(resolve: Resolve, reference: dict[str, Any]) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    leave(resolved, 16)
    for path in (folder.latest_checkpoint, folder.previous_checkpoint):
        damage(path, "cut off")
    _, lines = run(resolved)
    assert any("tiny was interrupted: it goes on after epoch 2 of 4" in line for line in lines)
    assert result(folder) == reference


def test_where_no_checkpoint_is_whole_a_run_starts_anew_and_keeps_them(
    resolve: Resolve, reference: dict[str, Any]
) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    leave(resolved, 6)
    damage(folder.latest_checkpoint, "cut off")
    damage(folder.previous_checkpoint, "empty")
    _, lines = run(resolved)
    assert any(line.startswith("warning: starts anew, since none of its checkpoints is whole") for line in lines)
    assert f"the earlier run is kept in {folder.root}.1" in lines
    assert result(folder) == reference


def test_the_best_checkpoint_is_made_of_the_latest_where_a_run_died_between_the_two(
    resolve: Resolve, reference: dict[str, Any]
) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    leave(resolved, 5)
    assert load_checkpoint(folder.best_checkpoint).epoch == 1
    folder.best_checkpoint.unlink()
    leave(resolved, 1)
    assert load_checkpoint(folder.best_checkpoint).epoch == 1
    run(resolved)
    assert result(folder) == reference


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["encoder.latent_channels=3"], "encoder.latent_channels = 3 (was 2)"),
        (["train.batch_size=2", "train.seed=1"], "train.batch_size = 2 (was 4), train.seed = 1 (was 42)"),
        (["losses.l1={}"], "losses.l1.output = 'rgb' (was left out)"),
        (["losses.segmentation=false", "decoder.heads.segmentation=false"], "losses.segmentation.weight = left out"),
        (["data.image_size=64"], "data.image_size = 64 (was 32)"),
    ],
)
def test_other_values_are_refused_by_name_and_nothing_is_touched(
    resolve: Resolve, changed: list[str], named: str
) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    leave(resolved, 6)
    before = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as caught:
        run(resolve(*ALL, *changed))
    assert named in str(caught.value)
    assert "restore it, or train anew with --resume never, which keeps the earlier run aside" in str(caught.value)
    assert ("or go on with the new values by --resume" in str(caught.value)) == (changed == ["losses.l1={}"])
    assert {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()} == before


def test_other_layouts_under_the_same_values_are_refused(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = resolve(*ALL)
    leave(resolved, 6)
    opened = resolved.manifest.data.open()
    changed = split_as(opened, resolved.manifest.train).train[0]  # the split itself is the same
    monkeypatch.setattr(type(opened), "name", lambda _, index: f"{'other ' if index == changed else ''}block {index}")
    with pytest.raises(UserError, match=r"tiny cannot go on from .*: its layouts were others \(16 layouts; now 16 lay"):
        run(resolved)


def test_what_may_change_is_said_kept_and_goes_on(resolve: Resolve) -> None:
    resolved = resolve(*ALL)
    leave(resolved, 6)
    changed = ["train.epochs=5", "callbacks.early_stopping.patience=3", "callbacks.samples={ tile = 32 }"]
    free = ["machine.threads=1", "phase.title='another'", "train.time_limit='1h'", "train.on_non_finite='skip'"]
    lines = leave(resolve(*ALL, *changed, *free), 2)
    evaluation, _ = run(resolve(*ALL, *changed, *free))
    note = (
        "went on in epoch 2 of 5, after 1 of its batches with other values: "
        "callbacks.early_stopping.patience = 3 (was 9), train.epochs = 5 (was 4)"
    )
    assert note in lines
    assert evaluation.notes == (note,)
    assert (evaluation.epochs, len(rows(run_folder(resolved)))) == (5, 5)


@pytest.mark.parametrize(
    ("boundary", "place", "trained"),
    [
        (15, "after epoch 3", "3 epochs"),
        (12, "in epoch 3, after 2 of its batches", "2 epochs and a part of the next"),
    ],
    ids=["between two epochs", "in an epoch"],
)
def test_a_run_that_is_to_have_fewer_epochs_than_it_has_trained_stops_where_it_is(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch, boundary: int, place: str, trained: str
) -> None:
    settings = (*ALL, "callbacks.ema=false")  # or a checkpoint within an epoch has the weights before the average
    resolved = resolve(*settings)
    leave(resolved, boundary)
    folder = run_folder(resolved)
    weights = latest_weights(folder)
    monkeypatch.setattr(Trainer, "train_step", lambda *_: pytest.fail("it trains"))
    shorter = resolve(*settings, "train.epochs=2")
    evaluation, lines = run(shorter)
    assert f"tiny was interrupted: it goes on {place}" in lines
    assert (
        f"tiny has trained {trained} already, more than train.epochs = 2, and stops there: nothing more is trained, "
        "and the result is that of its weights"
    ) in lines
    assert evaluation.notes == (f"went on {place} with other values: train.epochs = 2 (was 4)",)
    # What was trained of an epoch is measured as a whole one is.
    assert (evaluation.epochs, evaluation.weights_epoch, len(rows(folder))) == (3, 3, 3)
    assert latest_weights(folder) == weights
    assert any("is finished already" in line for line in run(shorter)[1])


def latest_weights(folder: RunFolder) -> str:
    return sha256_of(load_checkpoint(folder.latest_checkpoint).model)


@pytest.mark.parametrize("boundary", [5, 9], ids=["between two epochs", "in a validation"])
def test_a_run_whose_averaged_weights_are_taken_out_goes_on_from_the_trained_ones(
    resolve: Resolve, boundary: int
) -> None:
    averaged, plain = (resolve(*ALL, f"phase.experiment={name}") for name in ("averaged", "plain"))
    without = [resolve(*ALL, "callbacks.ema=false", f"phase.experiment={name}") for name in ("averaged", "plain")]
    leave(averaged, boundary)
    # Trained weights do not depend on the average, so that those of a run that never had it are the same.
    assert run_folder(averaged).latest_checkpoint.exists()
    assert run(without[0])[0].epochs == run(without[1])[0].epochs == 4
    assert latest_weights(run_folder(averaged)) == latest_weights(run_folder(plain))


def test_a_checkpoint_of_an_earlier_version_whose_average_kept_the_trained_weights_goes_on(
    resolve: Resolve, reference: dict[str, Any]
) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    leave(resolved, 5)
    checkpoint = load_checkpoint(folder.latest_checkpoint)
    assert checkpoint.training is not None
    training = dict(checkpoint.training)
    trained = training.pop("trained_weights")
    assert trained
    average = {**training["callbacks"]["ema"], "trained": list(trained.values())}
    training["callbacks"] = {**training["callbacks"], "ema": average}
    evolve(checkpoint, training=training).save(folder.latest_checkpoint)
    run(resolved)
    assert result(folder) == reference


def test_layouts_that_could_not_be_read_are_listed_at_the_end_also_by_a_run_that_went_on(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolve(*ALL, "train.epochs=1", "train.batch_size=2", "data.on_bad=skip")
    layouts = Data(resolved.manifest.data.open(), resolved.manifest.data, resolved.manifest.train, Seeds(42), 0)
    gone = {int(name.removeprefix("block ")) for name in layouts.names_of_batch(1, 0)}
    source = type(layouts.source)
    real = source.read

    def read(self: LayoutSource, index: int) -> Sample:
        if index in gone:
            raise UserError(f"block {index} cannot be read")
        return real(self, index)

    monkeypatch.setattr(source, "read", read)
    leave(resolved, 2)
    # They are back, and nobody would know that they have been missing in the first batch.
    monkeypatch.undo()
    evaluation, lines = run(resolved)
    assert set(evaluation.notes) == {f"block {index} cannot be read" for index in gone}
    assert any("in epoch 1 of 1, after 2 of its batches" in line for line in lines)
    checkpoint = load_checkpoint(run_folder(resolved).latest_checkpoint)
    assert checkpoint.training
    assert checkpoint.training["step"] == 6 - 1  # a batch of which nothing can be read leads to no step


def test_with_more_patience_a_run_that_had_stopped_early_goes_on(resolve: Resolve) -> None:
    settings = [*ALL, "train.epochs=6", "callbacks.early_stopping.min_delta=9"]  # the first epoch is all that counts
    stopped, _ = run(resolve(*settings, "callbacks.early_stopping.patience=2"))
    assert stopped.epochs == 3
    more = resolve(*settings, "callbacks.early_stopping.patience=4")
    evaluation, _ = run(more, resume=run_folder(more).latest_checkpoint)
    assert evaluation.epochs == 5
    assert evaluation.stop_reason.endswith("in 4 epochs")


COSINE = "train.lr_schedule={ type = 'cosine' }"


def test_a_finished_run_is_extended_by_the_schedule_of_the_longer_training(
    resolve: Resolve, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(resolve(COSINE, "train.epochs=2", "callbacks.checkpoint={}"))
    capsys.readouterr()
    longer = resolve(COSINE, "train.epochs=4", "callbacks.checkpoint={}")
    evaluation = run_experiment(longer, resume="extend")
    said = capsys.readouterr().out
    assert evaluation.epochs == 4
    folder = run_folder(longer)
    checkpoint = load_checkpoint(folder.latest_checkpoint)
    assert checkpoint.training is not None
    rates = [row["learning_rate"] for row in checkpoint.training["history"]]
    whole = [1e-3 * (1 + math.cos(math.pi * step / 12)) / 2 for step in (0, 3, 6, 9)]
    assert rates[2:] == pytest.approx(whole[2:], rel=0.1)  # but for the warm-up, which shifts it a little
    assert rates[2] > 3e-4
    assert f"the learning rate continues at {rates[2]:.3g}, where a schedule of 4 epochs has it by now" in said
    assert "finished: it goes on after epoch 2 of 4" in said
    assert not list(folder.root.parent.glob("tiny.*"))  # nothing was moved aside


def test_a_run_that_had_stopped_early_is_extended_with_all_its_patience(resolve: Resolve) -> None:
    resolved = resolve(
        "train.epochs=9", "callbacks.early_stopping={ patience = 2, min_delta = 1e9 }", "callbacks.checkpoint={}"
    )
    assert run_experiment(resolved).epochs == 3
    assert run_experiment(resolved, resume="extend").epochs == 5


def test_where_there_is_nothing_to_extend_it_is_said(resolve: Resolve) -> None:
    resolved = resolve("callbacks.checkpoint={}")
    with pytest.raises(UserError, match=r"--extend: .*tiny holds no checkpoint to continue from; leave --extend out"):
        run_experiment(resolved, resume="extend")


def test_more_epochs_train_anew_and_the_way_to_extend_is_said(
    resolve: Resolve, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(resolve("train.epochs=1", "callbacks.checkpoint={}"))
    capsys.readouterr()
    run_experiment(resolve("train.epochs=3", "callbacks.checkpoint={}"))
    assert (
        "tiny was finished after epoch 1, and is trained from scratch for 3 epochs; --extend 2 in place of "
        "train.epochs continues it"
    ) in capsys.readouterr().out


def test_weights_that_are_no_longer_to_be_restored_are_not(resolve: Resolve) -> None:
    resolved = resolve(*ALL)
    leave(resolved, 6)
    changed = resolve(*ALL, "callbacks.early_stopping.restore_best=false")
    evaluation, _ = run(changed)
    folder = run_folder(changed)
    assert evaluation.weights_epoch == 4
    assert evaluation.metrics["val_loss"] == float(rows(folder)[-1]["val_loss"])


def test_a_finished_run_of_other_values_is_moved_aside_and_not_touched(resolve: Resolve) -> None:
    resolved = resolve(*ALL, "train.epochs=1")
    run(resolved)
    before = run_folder(resolved).latest_checkpoint.read_bytes()
    _, lines = run(resolve(*ALL, "train.epochs=1", "encoder.latent_channels=3"))
    folder = run_folder(resolved)
    assert f"the earlier run is kept in {folder.root}.1" in lines
    assert (folder.root.with_name("tiny.1") / folder.latest_checkpoint.name).read_bytes() == before


def test_never_trains_anew_whatever_there_is(resolve: Resolve, reference: dict[str, Any]) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    leave(resolved, 6)
    for number in (1, 2):
        run(resolved, resume="never")
        assert folder.root.with_name(f"tiny.{number}").is_dir()
        assert result(folder) == reference


def test_a_run_goes_on_from_the_checkpoint_that_is_named_with_other_losses(
    resolve: Resolve, reference: dict[str, Any]
) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    run(resolved)
    earlier = result(folder)
    more = resolve(*ALL, "losses.l1.weight=0.1", "losses.segmentation=false")
    evaluation, lines = run(more, resume=folder.numbered_checkpoint(2))
    assert f"tiny goes on from {folder.numbered_checkpoint(2)} after epoch 2 of 4" in lines
    assert evaluation.notes[0].startswith("went on after epoch 2 of 4 with other values: losses.l1")
    # The metrics keep their columns; what is new stands behind them.
    now = rows(folder)
    assert [row["epoch"] for row in now] == ["1", "2", "3", "4"]
    columns, before = list(now[0]), list(reference["rows"][0])
    assert columns[: len(before)] == before
    assert [row["val_loss_l1"] == "" for row in now] == [True, True, False, False]
    assert [row["val_loss_segmentation"] == "" for row in now] == [False, False, True, True]
    assert now[:2] == [{**row, **dict.fromkeys(columns[len(before) :], "")} for row in reference["rows"][:2]]
    # The run that it came from is kept as it was.
    kept = folder.root.with_name("tiny.1")
    assert result(RunFolder(kept, folder.shared, "tiny")) == earlier


@pytest.mark.parametrize("boundary", [7, 8])
def test_a_loss_that_comes_in_within_an_epoch_has_the_mean_of_its_own_steps(resolve: Resolve, boundary: int) -> None:
    settings = [*ALL, "train.optimizer.learning_rate=1e-9", "encoder.variational=false", "losses.kld=false"]
    resolved = resolve(*settings)
    leave(resolved, boundary)  # before the last step, and in the validation
    more = resolve(*settings, "losses.l1={}", "callbacks.ema=false")
    run(more, resume=run_folder(resolved).latest_checkpoint)
    terms = [float(row["train_loss_l1"] or 0) for row in rows(run_folder(resolved))]
    assert terms[0] == 0
    if boundary == 7:
        assert terms[1] == pytest.approx(terms[2], rel=0.2)
    else:
        assert math.isnan(terms[1])
    assert terms[3] == pytest.approx(terms[2], rel=0.01)


def test_from_the_checkpoint_that_is_named_the_best_so_far_comes_along(resolve: Resolve) -> None:
    settings = [*ALL, "train.optimizer.learning_rate=1e-3"]
    first = resolve(*settings)
    folder = run_folder(first)
    run(first)
    # From here on it only gets worse.
    worse = resolve(*settings, "train.epochs=6", "losses.mse.weight=50", "callbacks.early_stopping.restore_best=false")
    evaluation, _ = run(worse, resume=folder.latest_checkpoint)
    assert evaluation.best_epoch == load_checkpoint(folder.best_checkpoint).epoch == 4


@pytest.mark.parametrize("boundary", [7, 10, 12])
def test_a_run_that_is_killed_soon_after_a_checkpoint_was_named_goes_on_from_there(
    resolve: Resolve, reference: dict[str, Any], monkeypatch: pytest.MonkeyPatch, boundary: int
) -> None:
    resolved = resolve(*ALL)
    leave(resolved, boundary)

    def killed(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Trainer, "_train_epoch", killed)
    with pytest.raises(MemoryError):
        run(resolved, resume=run_folder(resolved).latest_checkpoint)
    monkeypatch.undo()
    _, lines = run(resolved)
    assert any("it goes on" in line for line in lines)
    assert result(run_folder(resolved)) == {name: reference[name] for name in result(run_folder(resolved))}


def test_from_the_checkpoint_that_is_named_it_goes_on_without_a_damaged_best(resolve: Resolve) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    leave(resolved, 12)
    damage(folder.best_checkpoint, "cut off")
    evaluation, lines = run(resolved, resume=folder.latest_checkpoint)
    assert any(
        line.startswith("warning: goes on without the best checkpoint so far: ") and "tiny.1" in line for line in lines
    )
    assert load_checkpoint(folder.best_checkpoint).epoch == evaluation.best_epoch


def test_the_best_of_another_run_does_not_come_along(resolve: Resolve, tmp_path: Path) -> None:
    others = {}
    for rate in ("1e-3", "1e-5"):
        other = resolve(*ALL, f"train.optimizer.learning_rate={rate}", f"phase.experiment='at_{rate}'")
        leave(other, 12)
        folder = run_folder(other)
        others[rate] = load_checkpoint(folder.best_checkpoint)
        for path in (folder.best_checkpoint, folder.latest_checkpoint):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert others["1e-3"].epoch == others["1e-5"].epoch
    for rate in others:
        resolved = resolve(*ALL, f"train.optimizer.learning_rate={rate}", f"output.experiments='{tmp_path}/{rate}'")
        leave(resolved, 1, resume=tmp_path / f"at_{rate}_checkpoint_latest.pt")
        assert load_checkpoint(run_folder(resolved).best_checkpoint).metrics == others[rate].metrics


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best_checkpoint", r"--resume .*best.pt: holds weights, and nothing else .*; take the latest or a numbered"),
        ("metrics", r"metrics.csv: cannot be read as a checkpoint"),
        ("numbered_checkpoint", r"no such checkpoint"),
    ],
)
def test_what_a_run_cannot_go_on_from_is_refused(resolve: Resolve, name: str, message: str) -> None:
    resolved = resolve(*ALL, "train.epochs=1")
    folder = run_folder(resolved)
    run(resolved)
    path = folder.numbered_checkpoint(9) if name == "numbered_checkpoint" else getattr(folder, name)
    with pytest.raises(UserError, match=message):
        run(resolved, resume=path)
    assert not folder.root.with_name("tiny.1").exists()


def test_a_network_that_has_changed_behind_its_manifest_is_one_sentence(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolve(*ALL)
    leave(resolved, 6)

    def strange(*_: object, **__: object) -> None:
        raise RuntimeError("size mismatch for encoder.levels.0")

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", strange)
    with pytest.raises(UserError, match=r"latest.pt: does not fit what its manifest now builds \(RuntimeError: size"):
        run(resolved)


def test_a_state_that_is_none_is_one_sentence(resolve: Resolve) -> None:
    resolved = resolve(*ALL)
    leave(resolved, 6)
    path = run_folder(resolved).latest_checkpoint
    evolve(load_checkpoint(path), training={"epoch": 1}).save(path)
    with pytest.raises(UserError, match=r"latest.pt: does not fit what its manifest now builds \(KeyError: 'data'\)"):
        run(resolved)


def test_a_run_that_saves_nothing_is_not_said_to_go_on(resolve: Resolve) -> None:
    resolved = resolve("callbacks.metrics_csv={}")
    with pytest.raises(
        UserError, match=r"tiny was stopped by asked and cannot resume, .*; add \[callbacks\] checkpoint = {}"
    ):
        run(resolved, stop_request=Asking(2))
    record = load_record(run_folder(resolved).record)
    assert record is not None
    assert record.state == "failed"


def test_a_run_that_was_cut_off_before_its_first_checkpoint_starts_anew_in_its_place(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolve(*ALL, "train.epochs=1")
    monkeypatch.setattr(Trainer, "fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(resolved)
    monkeypatch.undo()
    _, lines = run(resolved)
    assert not any("kept in" in line for line in lines)
    assert not run_folder(resolved).root.with_name("tiny.1").exists()


class Losing(StopRequest):
    """Loses the lock at its third boundary."""

    def check(self, *, advanced: bool) -> str:
        self.boundaries = getattr(self, "boundaries", 0) + 1
        if self.boundaries == 3:
            self.abort("another process has taken over the run")
        return super().check(advanced=advanced)


def test_who_has_lost_its_lock_writes_nothing_more(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    written: list[Path] = []
    real = files._write

    def write(path: Path, *rest: Any) -> None:
        written.append(path)
        real(path, *rest)

    monkeypatch.setattr(files, "_write", write)
    with pytest.raises(UserError, match="another process has taken over the run"):
        run(resolved, stop_request=Losing())
    assert written == [folder.record, folder.manifest]
    record = load_record(folder.record)
    assert record is not None
    assert record.state == "cut off"


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Let the disk be full for files whose name holds a text."""
    monkeypatch.setattr(files, "DISK_FULL_WAITS_SECONDS", ())
    real = files._write

    def fill(text: str) -> None:
        def write(path: Path, *rest: Any) -> None:
            if text in path.name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(path, *rest)

        monkeypatch.setattr(files, "_write", write)

    yield fill
    monkeypatch.setattr(files, "_write", real)


@pytest.mark.parametrize("file", ["_checkpoint_latest", "_checkpoint_best", "_metrics", "evaluation", "report"])
def test_a_full_disk_stops_with_what_there_is_and_the_run_goes_on_when_there_is_room(
    resolve: Resolve,
    reference: dict[str, Any],
    full_disk: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
) -> None:
    resolved = resolve(*ALL)
    folder = run_folder(resolved)
    if file == "report":
        monkeypatch.setenv(DISABLE, left_out())
    elif file != "evaluation":
        leave(resolved, 7)
    full_disk(file)
    with pytest.raises(UserError, match=rf"cannot write .*{file}.*: No space left on device; free some space"):
        run(resolved)
    record = load_record(folder.record)
    assert record is not None
    assert record.state == "failed"
    assert "No space left on device" in record.error
    monkeypatch.undo()
    run(resolved)
    assert result(folder) == reference


def test_the_place_within_an_epoch_is_noted_for_people(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = resolve("train.epochs=1")
    noted: list[tuple[int, int, int]] = []
    real = Recorder.write

    def write(self: Recorder, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        record = load_record(run_folder(resolved).record)
        assert record is not None
        noted.append((record.epoch, record.batch, record.batches))

    monkeypatch.setattr(Recorder, "write", write)
    monkeypatch.setattr("imginav.runs.experiment.NOTED_SECONDS", 0.0)
    run(resolved)
    # At its start, after each of three batches, after the epoch, and at its end.
    assert noted == [(0, 0, 0), (0, 1, 3), (0, 2, 3), (0, 3, 3), (1, 0, 0), (1, 0, 0)]


def test_a_note_that_finds_no_room_is_left_out(
    resolve: Resolve, full_disk: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolve("train.epochs=1")
    real = Recorder.write
    notes = []

    def write(self: Recorder, *arguments: Any, **options: Any) -> None:
        if "within" in options:
            full_disk("run.json")
            notes.append(options["within"])
        real(self, *arguments, **options)

    monkeypatch.setattr(Recorder, "write", write)
    monkeypatch.setattr("imginav.runs.experiment.NOTED_SECONDS", 0.0)
    with pytest.raises(UserError, match=r"cannot write .*run.json"):  # of the epoch's end, which does count
        run(resolved)
    assert notes == [(1, 3), (2, 3), (3, 3)]
