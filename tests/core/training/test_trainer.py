"""The loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from imginav import UserError, hookimpl
from imginav.training import trainer as trainer_module
from imginav.training.device import Device
from imginav.training.trainer import Trainer
from imginav_tests.examples import examples

MakeTrainer = Callable[..., Trainer]

GOLDEN_LOSSES = [0.927886168162028, 0.7413922945658366]
"""Measured once, in fp32 on a CPU; a change of them is a change of what a manifest means."""


class Recorder:
    """Writes down which events came, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.rows: list[dict[str, float]] = []

    @hookimpl
    def epoch_started(self, epoch: int) -> None:
        self.events.append(f"epoch {epoch} started")

    @hookimpl
    def gradients_ready(self, trainer: Trainer) -> None:
        assert all(p.grad is not None for p in trainer.model.parameters())
        self.events.append("gradients ready")

    @hookimpl
    def step_finished(self, trainer: Trainer, terms: Mapping[str, Tensor]) -> None:
        assert set(terms) == {"mse", "segmentation", "loss"}
        self.events.append(f"step {trainer.step} finished")

    @hookimpl
    def validation_started(self, epoch: int) -> None:
        self.events.append(f"validation {epoch} started")

    @hookimpl
    def epoch_finished(self, row: Mapping[str, float]) -> None:
        self.rows.append(dict(row))
        self.events.append(f"epoch {row['epoch']} finished")

    @hookimpl
    def training_finished(self) -> None:
        self.events.append("training finished")


def test_the_loss_of_a_tiny_run_is_known_exactly(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("machine.threads=1", "machine.precision=fp32")
    trainer.fit()
    losses = [row["train_loss"] for row in trainer.history]
    assert losses == pytest.approx(GOLDEN_LOSSES, rel=1e-5)


def test_the_trainer_works_without_callbacks_and_the_loss_falls(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("train.epochs=8")
    assert trainer.hooks.callbacks == {}
    trainer.fit()
    assert trainer.history[-1]["val_loss"] < 0.7 * trainer.history[0]["val_loss"]


def test_the_events_of_a_run_come_in_order(make_trainer: MakeTrainer) -> None:
    recorder = Recorder()
    make_trainer("train.epochs=1", callbacks={"recorder": recorder}).fit()
    steps = [e for n in (1, 2, 3) for e in ("gradients ready", f"step {n} finished")]
    assert recorder.events == [
        "epoch 1 started", *steps, "validation 1 started", "epoch 1 finished", "training finished",
    ]  # fmt: skip


def test_a_row_holds_each_term_weighted_and_unweighted(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("train.epochs=1")
    trainer.fit()
    row = trainer.history[0]
    assert list(row) == [
        "epoch",
        "train_loss", "train_loss_mse", "train_loss_mse_weighted",
        "train_loss_segmentation", "train_loss_segmentation_weighted",
        "val_loss", "val_loss_mse", "val_loss_mse_weighted",
        "val_loss_segmentation", "val_loss_segmentation_weighted",
        "val_mse", "val_psnr_db", "val_unmatched_share",
        "learning_rate", "seconds", "images_per_second",
    ]  # fmt: skip
    for part in ("train", "val"):
        assert row[f"{part}_loss_segmentation_weighted"] == pytest.approx(0.1 * row[f"{part}_loss_segmentation"])
        total = row[f"{part}_loss_mse_weighted"] + row[f"{part}_loss_segmentation_weighted"]
        assert row[f"{part}_loss"] == pytest.approx(total, rel=1e-6)
    assert row["val_mse"] == pytest.approx(row["val_loss_mse"])
    assert row["val_psnr_db"] == pytest.approx(10 * math.log10(4 / row["val_mse"]))
    assert row["learning_rate"] == 1e-3


def test_the_same_manifest_gives_the_same_run_bit_for_bit(make_trainer: MakeTrainer) -> None:
    first, second = make_trainer("encoder.variational=true"), make_trainer("encoder.variational=true")
    for trainer in (first, second):
        trainer.fit()
        torch.rand(3)  # what others draw in between changes nothing
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_seed_gives_another_run(make_trainer: MakeTrainer) -> None:
    first, second = make_trainer(), make_trainer("train.seed=43")
    assert first.data.split != second.data.split
    assert not torch.equal(next(first.model.parameters()), next(second.model.parameters()))


@settings(max_examples=examples(6, quick=2), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.integers(2, 6))
def test_a_batch_in_parts_gives_the_same_weights(make_trainer: MakeTrainer, parts: int) -> None:
    # SGD, because Adam blows rounding errors up where a gradient is nearly zero.
    flags = ["train.epochs=1", "train.optimizer={ type = 'sgd', learning_rate = 0.05 }", "machine.precision=fp32"]
    whole, split = make_trainer(*flags), make_trainer(*flags, f"machine.accumulate={parts}")
    for trainer in (whole, split):
        trainer.fit()
    for a, b in zip(whole.model.parameters(), split.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class Poison:
    """Makes what is asked for not finite in some steps, by their number."""

    def __init__(self, trainer: Trainer, what: str, *steps: int) -> None:
        self.calls = 0
        loss, backward = trainer.objective, trainer.optimization.backward

        def poisoned_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            terms = loss(outputs, batch)
            if trainer.model.training:
                self.calls += 1
                if what == "loss" and self.calls in steps:
                    return {name: term * math.nan if name != "segmentation" else term for name, term in terms.items()}
            return terms

        def poisoned_backward(total: Tensor) -> None:
            backward(total)
            if what == "gradient" and self.calls in steps:
                next(trainer.model.decoder.parameters()).grad.fill_(math.inf)  # type: ignore[union-attr]

        poisoned_loss.columns = loss.columns  # type: ignore[attr-defined]
        poisoned_loss.weights = loss.weights  # type: ignore[attr-defined]
        trainer.objective = trainer._gradients._objective = poisoned_loss  # type: ignore[assignment]
        trainer.optimization.backward = poisoned_backward  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("loss", "because its loss is not finite: mse = nan, loss = nan; the latest checkpoint is from before it; set"),
        (
            "gradient",
            r"because a gradient is not finite: that of decoder\.\S*; the latest checkpoint is from",
        ),
    ],
)
def test_what_is_not_finite_stops_before_the_step_and_is_named_with_its_batch(
    make_trainer: MakeTrainer, what: str, message: str
) -> None:
    trainer = make_trainer("callbacks.gradient_clipping={}")
    Poison(trainer, what, 2)
    before: list[Tensor] = []

    class Keep:
        @hookimpl
        def step_finished(self, trainer: Trainer) -> None:
            before.extend(p.detach().clone() for p in trainer.model.parameters())

    trainer.hooks.add("keep", Keep())
    with pytest.raises(UserError, match=rf"before step 2 \(epoch 1, batch 2\), {message}") as caught:
        trainer.fit()
    assert trainer.step == 1
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    names = str(caught.value).splitlines()[1:]
    assert names == [f"  {name}" for name in trainer.data.names_of_batch(1, 1)]
    assert len(names) == 4
    assert "train.on_non_finite = 'skip'" in str(caught.value)


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize(("steps_per_reading", "noticed"), [(2, 2), (4, 3), (50, 3)])
def test_where_a_reading_would_wait_what_is_not_finite_is_found_before_anything_is_judged_or_saved(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, what: str, steps_per_reading: int, noticed: int
) -> None:
    monkeypatch.setattr(Device, "works_ahead", True)
    monkeypatch.setattr(trainer_module, "STEPS_PER_CHECK", steps_per_reading)
    trainer = make_trainer()
    Poison(trainer, what, 2)
    judged: list[str] = []

    class Listener:
        @hookimpl
        def validation_started(self) -> None:
            judged.append("validation")

    trainer.hooks.add("listener", Listener())
    term = "its loss is not finite: mse = nan, loss = nan" if what == "loss" else "a gradient is not finite"
    message = rf"of which step 2 \(epoch 1, batch 2\) spoiled the weights, because {term}.*; the latest checkpoint is"
    with pytest.raises(UserError, match=message) as caught:
        trainer.fit()
    assert trainer.step in (noticed, noticed - 1)
    assert not judged
    assert str(caught.value).splitlines()[1:] == [f"  {name}" for name in trainer.data.names_of_batch(1, 1)]


def test_where_a_reading_would_wait_spoiled_weights_are_not_saved(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "works_ahead", True)
    trainer = make_trainer()
    Poison(trainer, "loss", 1)

    class SavesEachStep:
        @hookimpl
        def step_finished(self, trainer: Trainer) -> None:
            trainer.state_dict()

    trainer.hooks.add("saves", SavesEachStep())
    with pytest.raises(UserError, match=r"after step 1, of which step 1 \(epoch 1, batch 1\) spoiled the weights"):
        trainer.fit()


def test_where_a_reading_would_wait_nothing_else_changes(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_trainer()
    plain.fit()
    monkeypatch.setattr(Device, "works_ahead", True)
    ahead = make_trainer()
    ahead.fit()
    for a, b in zip(plain.model.parameters(), ahead.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_where_a_batch_may_be_left_out_each_step_is_read(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "works_ahead", True)
    trainer = make_trainer("train.on_non_finite=skip")
    Poison(trainer, "gradient", 2)
    trainer.fit()
    assert trainer.left_out == 1
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_batches_that_are_not_finite_can_be_left_out_up_to_a_limit(make_trainer: MakeTrainer, what: str) -> None:
    trainer = make_trainer("train.on_non_finite=skip", "train.non_finite_limit=2", "train.epochs=3")
    Poison(trainer, what, 2, 5)
    told: list[str] = []

    class Listener:
        @hookimpl
        def batch_skipped(self, reason: str) -> None:
            told.append(reason)

    trainer.hooks.add("listener", Listener())
    trainer.fit()
    assert (trainer.step, trainer.left_out) == (9 - 2, 2)
    assert told == trainer.notes
    assert told[0].startswith("no step 2 (epoch 1, batch 2), because ")
    assert told[0].endswith(f"its layouts: {', '.join(trainer.data.names_of_batch(1, 1))}")
    assert told[1].startswith("no step 4 (epoch 2, batch 2), because ")
    assert all(math.isfinite(value) for row in trainer.history for value in row.values())

    again = make_trainer("train.on_non_finite=skip", "train.non_finite_limit=2", "train.epochs=3")
    Poison(again, what, 2, 5, 6)
    with pytest.raises(UserError, match=r"train.non_finite_limit = 2 batches were left out before: lower train.optim"):
        again.fit()


def test_an_epoch_without_any_step_is_a_fault(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("train.on_non_finite=skip")
    Poison(trainer, "loss", 1, 2, 3)
    with pytest.raises(UserError, match="epoch 1 had no batch that led to a step"):
        trainer.fit()


class Scaler:
    """Stands for the gradient scaler of a GPU in fp16: gradients overflow until the scale is small enough."""

    def __init__(self, scale: float, fits: float) -> None:
        self.scale_now, self.fits = scale, fits
        self.steps = 0

    def is_enabled(self) -> bool:
        return True

    def scale(self, loss: Tensor) -> Tensor:
        return loss * (math.inf if self.scale_now > self.fits else 1.0)

    def unscale_(self, optimizer: object) -> None:
        pass

    def get_scale(self) -> float:
        return self.scale_now

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.scale_now <= self.fits:
            optimizer.step()
            self.steps += 1

    def update(self, new: float | None = None) -> None:
        self.scale_now = new or (self.scale_now / 2 if self.scale_now > self.fits else self.scale_now)


def test_in_fp16_a_step_that_the_scaler_leaves_out_is_no_fault(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    scaler = Scaler(1024, fits=256)
    trainer.optimization._scaler = scaler  # type: ignore[assignment]
    trainer.fit()
    assert (trainer.step, scaler.steps, trainer.left_out) == (6, 4, 0)


def test_in_fp16_gradients_that_overflow_at_any_scale_are_a_fault(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("train.epochs=9")
    trainer.optimization._scaler = Scaler(8, fits=0)  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"before step 5 .* because a gradient is not finite"):
        trainer.fit()


def test_a_callback_can_stop_the_training_after_the_epoch(make_trainer: MakeTrainer) -> None:
    class Stopper:
        @hookimpl
        def step_finished(self, trainer: Trainer) -> None:
            trainer.stop("enough")

    trainer = make_trainer("train.epochs=5", callbacks={"stopper": Stopper()})
    trainer.fit()
    assert (trainer.epoch, len(trainer.history), trainer.stop_reason) == (1, 1, "enough")


@settings(max_examples=examples(4, quick=2), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 3))
def test_a_run_that_goes_on_from_its_state_equals_an_unbroken_one(
    make_trainer: MakeTrainer, tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "state.pt"
    flags = [
        "encoder.variational=true",
        "losses.kld.weight=1e-3",
        "train.lr_schedule={ type = 'cosine' }",
        "callbacks.ema={}",
        "callbacks.early_stopping={}",
    ]
    unbroken = make_trainer(*flags, "train.epochs=4")
    unbroken.hooks.run_started(unbroken, None, None)  # type: ignore[arg-type]  # these callbacks need no folder
    unbroken.fit()

    class Cut:
        @hookimpl(trylast=True)
        def epoch_finished(self, trainer: Trainer) -> None:
            if trainer.epoch == cut:
                clone = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
                torch.save({"model": clone, "training": trainer.state_dict()}, path)
                trainer.stop("cut")

    broken = make_trainer(*flags, "train.epochs=4", callbacks={"cut": Cut()})
    broken.hooks.run_started(broken, None, None)  # type: ignore[arg-type]
    broken.fit()
    state = torch.load(path, weights_only=True)
    resumed = make_trainer(*flags, "train.epochs=4")
    resumed.model.load_state_dict(state["model"])
    resumed.load_state_dict(state["training"])
    resumed.hooks.run_started(resumed, None, None)  # type: ignore[arg-type]
    resumed.fit()

    times = {"seconds", "images_per_second"}
    assert [{k: v for k, v in row.items() if k not in times} for row in resumed.history] == [
        {k: v for k, v in row.items() if k not in times} for row in unbroken.history
    ]
    for a, b in zip(unbroken.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_unknown_metric_is_refused_at_the_start(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"train.monitor = 'val_los' is no metric .*did you mean 'val_loss'"):
        make_trainer("train.monitor=val_los")


def test_a_loss_without_its_output_or_target_is_refused_at_the_start(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"losses.kld reads the output 'mean', which does not exist.*latent, rgb"):
        make_trainer("losses.kld={}")
    with pytest.raises(UserError, match=r"losses.mse reads the target 'rbg', .*did you mean 'rgb'\?.*label, rgb"):
        make_trainer("losses.mse.target=rbg")
    with pytest.raises(UserError, match=r"losses.loss: the name 'loss' is kept"):
        make_trainer("losses.loss={type='mse'}")


def test_a_decoder_that_contradicts_the_encoder_is_refused_at_the_start(make_trainer: MakeTrainer) -> None:
    with pytest.raises(UserError, match=r"decoder.latent_channels = 4 contradicts encoder.latent_channels = 2; leave"):
        make_trainer("decoder.latent_channels=4")
    with pytest.raises(UserError, match=r"decoder.upsampling_steps = 3 contradicts encoder.downsampling_steps = 2"):
        make_trainer("decoder.upsampling_steps=3")
    make_trainer("decoder.latent_channels=2", "decoder.upsampling_steps=2")


def test_bf16_and_channels_last_train_as_well(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("machine.precision=bf16", "machine.channels_last=true", "train.epochs=4")
    weight = trainer.model.encoder.get_parameter("levels.1.0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    trainer.fit()
    assert trainer.history[-1]["val_loss"] < trainer.history[0]["val_loss"]


def test_a_run_that_was_stopped_trains_no_further_when_it_is_taken_up_again(make_trainer: MakeTrainer) -> None:
    stopped = make_trainer("train.epochs=5")
    stopped.stop("enough")
    resumed = make_trainer("train.epochs=5")
    resumed.load_state_dict(stopped.state_dict())
    resumed.fit()
    assert (resumed.epoch, resumed.stop_reason) == (0, "enough")


class RandomStates:
    """Notes where torch's own generator stands at the start of each epoch."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    @hookimpl
    def epoch_started(self) -> None:
        self.seen.append(torch.get_rng_state())
        torch.rand(3)  # as a layer of a plugin draws


def test_layers_that_draw_go_on_in_their_sequence(make_trainer: MakeTrainer) -> None:
    unbroken = RandomStates()
    make_trainer("train.epochs=3", callbacks={"states": unbroken}).fit()
    first, second = RandomStates(), RandomStates()
    cut_off = make_trainer("train.epochs=2", callbacks={"states": first})
    cut_off.fit()
    resumed = make_trainer("train.epochs=3", callbacks={"states": second})
    resumed.load_state_dict(cut_off.state_dict())
    resumed.fit()
    assert len(first.seen) + len(second.seen) == len(unbroken.seen) == 3
    assert all(torch.equal(a, b) for a, b in zip([*first.seen, *second.seen], unbroken.seen, strict=True))
