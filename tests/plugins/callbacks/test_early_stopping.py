"""When a run stops, and with which weights it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from imginav.training.trainer import Trainer
from imginav_callbacks import EMA, EarlyStopping
from imginav_tests.weights import WeightsOfEachEpoch

MakeRun = Callable[..., Any]


def fit(make_run: MakeRun, config: EarlyStopping, val_losses: Sequence[float]) -> tuple[Trainer, WeightsOfEachEpoch]:
    kept = WeightsOfEachEpoch()
    run = make_run({"early_stopping": config}, {"kept": kept}, epochs=len(val_losses))
    return run.fit(val_losses), kept


def test_it_stops_after_patience_epochs_without_improvement(make_run: MakeRun) -> None:
    trainer, _ = fit(make_run, EarlyStopping(patience=2), [3.0, 2.0, 2.5, 2.0, 1.0])
    assert trainer.epoch == 4
    assert trainer.stop_reason == "early stopping: val_loss has not improved by more than 0 in 2 epochs"
    assert [row["val_loss"] for row in trainer.history] == [3.0, 2.0, 2.5, 2.0]


def test_an_improvement_starts_the_count_anew(make_run: MakeRun) -> None:
    trainer, _ = fit(make_run, EarlyStopping(patience=2), [3.0, 3.5, 2.0, 2.5, 1.0, 1.5])
    assert (trainer.epoch, trainer.stop_reason) == (6, "")


def test_the_best_weights_are_put_back_exactly(make_run: MakeRun) -> None:
    trainer, kept = fit(make_run, EarlyStopping(patience=2), [3.0, 1.0, 2.0, 2.0, 9.0])
    assert (trainer.epoch, trainer.best.epoch, trainer.weights_epoch) == (4, 2, 2)
    assert kept.are_those_of(2, trainer.model)
    assert not kept.are_those_of(4, trainer.model)


def test_the_best_weights_are_put_back_also_where_it_does_not_stop(make_run: MakeRun) -> None:
    trainer, kept = fit(make_run, EarlyStopping(patience=5), [1.0, 2.0])
    assert (trainer.stop_reason, trainer.weights_epoch) == ("", 1)
    assert kept.are_those_of(1, trainer.model)


def test_the_last_weights_stay_where_that_is_asked_for(make_run: MakeRun) -> None:
    trainer, kept = fit(make_run, EarlyStopping(patience=1, restore_best=False), [1.0, 2.0, 0.5])
    assert (trainer.epoch, trainer.weights_epoch) == (2, 2)
    assert kept.are_those_of(2, trainer.model)


def test_min_delta_counts_for_patience_and_the_best_is_still_the_best(make_run: MakeRun) -> None:
    # Each is better than the one before by less than min_delta; the fourth beats the first by more.
    values = [1e-4, 0.9e-4, 0.8e-4, 0.4e-4, 0.35e-4, 0.3e-4]
    trainer, kept = fit(make_run, EarlyStopping(patience=2, min_delta=1e-4), values)
    assert (trainer.epoch, trainer.best.epoch, trainer.weights_epoch) == (3, 3, 3)
    assert trainer.stop_reason.endswith("by more than 0.0001 in 2 epochs")
    assert kept.are_those_of(3, trainer.model)
    trainer, _ = fit(make_run, EarlyStopping(patience=3, min_delta=0.5e-4), values)
    assert (trainer.epoch, trainer.stop_reason) == (6, "")


def test_a_relative_min_delta_is_a_share_of_the_value_to_beat(make_run: MakeRun) -> None:
    # Each is a tenth better than the one before, and none by as much as 1e-4.
    values = [1e-4 * 0.9**epoch for epoch in range(6)]
    stopper = EarlyStopping(patience=2, min_delta=0.05, min_delta_mode="relative")
    trainer, _ = fit(make_run, stopper, values)
    assert (trainer.epoch, trainer.stop_reason) == (6, "")
    trainer, _ = fit(make_run, stopper, [1.0, 0.96, 0.955, 0.5])
    assert trainer.epoch == 3
    assert trainer.stop_reason == "early stopping: val_loss has not improved by more than 5 % in 2 epochs"
    assert (trainer.best.epoch, trainer.weights_epoch) == (3, 3)


def test_a_relative_min_delta_of_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a relative min_delta below 1, such as 0.01 for 1 %, found 1"):
        EarlyStopping(min_delta=1, min_delta_mode="relative")


def test_a_value_that_is_no_number_is_waited_out_and_never_the_best(make_run: MakeRun) -> None:
    trainer, kept = fit(make_run, EarlyStopping(patience=2), [math.nan, 2.0, math.nan, math.nan, 1.0])
    assert (trainer.epoch, trainer.weights_epoch) == (4, 2)
    assert kept.are_those_of(2, trainer.model)
    trainer, _ = fit(make_run, EarlyStopping(patience=2), [math.nan, math.nan, 1.0])
    assert (trainer.epoch, trainer.best.epoch, trainer.weights_epoch) == (2, None, 2)


def test_averaged_weights_are_put_back_as_they_were_judged(make_run: MakeRun) -> None:
    kept = WeightsOfEachEpoch()
    callbacks = {"early_stopping": EarlyStopping(patience=1), "ema": EMA(decay=0.5)}
    trainer = make_run(callbacks, {"kept": kept}, epochs=3).fit([1.0, 2.0, 3.0])
    assert trainer.epoch == 2
    assert kept.are_those_of(1, trainer.model)


def test_the_count_and_the_best_weights_survive_a_restart(make_run: MakeRun) -> None:
    first, kept = fit(make_run, EarlyStopping(patience=3, min_delta=0.5), [1.0, 2.0, 0.8])
    assert (first.stop_reason, first.best.epoch) == ("", 3)
    state = first.state_dict()
    run = make_run({"early_stopping": EarlyStopping(patience=3, min_delta=0.5)}, epochs=9)
    run.trainer.load_state_dict(state)
    second = run.fit([0.9, 0.1])
    assert (second.epoch, second.weights_epoch) == (4, 3)
    assert second.stop_reason.endswith("by more than 0.5 in 3 epochs")
    assert kept.are_those_of(3, second.model)


@pytest.mark.parametrize("keys", [{"patience": 0}, {"min_delta": -1e-4}])
def test_settings_that_mean_nothing_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a number of at least"):
        EarlyStopping(**keys)
