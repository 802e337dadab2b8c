"""Averaged weights are judged, and the trained ones go on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from imginav import hookimpl
from imginav.training.trainer import Trainer
from imginav_callbacks import EMA

MakeRun = Callable[..., Any]


def weights(trainer: Trainer) -> list[Tensor]:
    return [p.detach().clone() for p in trainer.model.parameters()]


class Watcher:
    """Keeps the weights before the first step, after each step, while judged, and the next epoch's first ones."""

    def __init__(self) -> None:
        self.initial: list[Tensor] = []
        self.after_steps: list[list[Tensor]] = []
        self.judged: list[list[Tensor]] = []
        self.at_epoch_start: list[list[Tensor]] = []

    @hookimpl
    def run_started(self, trainer: Trainer) -> None:
        self.initial = weights(trainer)

    @hookimpl
    def epoch_started(self, trainer: Trainer) -> None:
        self.at_epoch_start.append(weights(trainer))

    @hookimpl
    def step_finished(self, trainer: Trainer) -> None:
        self.after_steps.append(weights(trainer))

    @hookimpl
    def epoch_finished(self, trainer: Trainer) -> None:
        self.judged.append(weights(trainer))


def close(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.allclose(x, y, rtol=1e-5, atol=1e-7) for x, y in zip(a, b, strict=True))


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def average(watcher: Watcher, decay: float, steps: int) -> list[Tensor]:
    """The average after some steps, by its formula."""
    kept = watcher.initial
    for step, trained in enumerate(watcher.after_steps[:steps], start=1):
        stays = min(decay, (1 + step) / (10 + step))
        kept = [stays * a + (1 - stays) * t for a, t in zip(kept, trained, strict=True)]
    return kept


@pytest.mark.parametrize("decay", [0.25, 0.999])
def test_the_average_is_judged(make_run: MakeRun, decay: float) -> None:
    watcher = Watcher()
    make_run({"ema": EMA(decay=decay)}, {"watcher": watcher}, epochs=2).fit()
    assert len(watcher.after_steps) == 4
    assert close(watcher.judged[0], average(watcher, decay, 2))
    assert close(watcher.judged[1], average(watcher, decay, 4))
    assert not close(watcher.judged[1], watcher.after_steps[3])


def test_the_validation_measures_the_average(make_run: MakeRun) -> None:
    trainer = make_run({"ema": EMA()}, epochs=1).fit()
    judged = trainer.history[0]["val_loss"]
    assert trainer.validate()["val_loss"] == judged
    assert make_run(epochs=1).fit().history[0]["val_loss"] != judged


def test_the_training_goes_on_with_its_own_weights_as_if_there_were_no_average(make_run: MakeRun) -> None:
    averaged, plain = Watcher(), Watcher()
    make_run({"ema": EMA()}, {"watcher": averaged}, epochs=3).fit()
    make_run({}, {"watcher": plain}, epochs=3).fit()
    assert equal(averaged.at_epoch_start[1], averaged.after_steps[1])
    for a, b in zip(averaged.after_steps, plain.after_steps, strict=True):
        assert equal(a, b)


def test_the_training_goes_on_with_its_own_weights_also_where_two_averages_replace_them(make_run: MakeRun) -> None:
    averaged, plain = Watcher(), Watcher()
    make_run({"ema": EMA(decay=0.5), "slow": EMA()}, {"watcher": averaged}, epochs=3).fit()
    make_run({}, {"watcher": plain}, epochs=3).fit()
    for a, b in zip(averaged.after_steps, plain.after_steps, strict=True):
        assert equal(a, b)


def test_the_average_is_what_the_run_leaves(make_run: MakeRun) -> None:
    watcher = Watcher()
    trainer = make_run({"ema": EMA()}, {"watcher": watcher}, epochs=2).fit()
    assert equal(weights(trainer), watcher.judged[-1])


def test_a_restarted_run_goes_on_from_both_average_and_trained_weights(make_run: MakeRun) -> None:
    unbroken = Watcher()
    make_run({"ema": EMA(decay=0.5)}, {"watcher": unbroken}, epochs=3).fit()
    first = make_run({"ema": EMA(decay=0.5)}, epochs=1).fit()
    state = copy.deepcopy(first.state_dict())
    again = Watcher()
    second = make_run({"ema": EMA(decay=0.5)}, {"watcher": again}, epochs=3)
    second.trainer.load_state_dict(state)  # and the model holds neither of them
    second.fit()
    assert equal(again.at_epoch_start[0], unbroken.after_steps[1])
    assert equal(again.judged[-1], unbroken.judged[-1])


def test_frozen_weights_are_left_alone(make_run: MakeRun) -> None:
    run = make_run({"ema": EMA()}, epochs=1)
    frozen = next(run.trainer.model.encoder.parameters()).requires_grad_(False)
    before = frozen.clone()
    run.fit()
    assert torch.equal(frozen, before)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_a_decay_that_keeps_all_or_nothing_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="expected a number between 0 and 1, both excluded, found"):
        EMA(decay=decay)
