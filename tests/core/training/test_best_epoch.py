"""One meaning of best."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imginav import UserError
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.checkpoint import load_checkpoint
from imginav.runs.experiment import run_experiment, run_folder
from imginav.training.best_epoch import BestEpoch
from imginav.training.trainer import Trainer

VALUES = st.lists(st.floats(allow_nan=True), min_size=1)


@given(VALUES, st.sampled_from(["min", "max"]))
def test_the_best_is_the_first_of_the_best_values_and_never_nan(values: list[float], mode: str) -> None:
    best = BestEpoch("m", mode, ["m"])  # type: ignore[arg-type]  # one of two
    for epoch, value in enumerate(values, 1):
        best.see({"m": value}, epoch)
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        assert best.epoch is None
        return
    assert best.value == (min(numbers) if mode == "min" else max(numbers))
    assert best.epoch == 1 + values.index(best.value)


def test_the_smallest_improvement_counts() -> None:
    best = BestEpoch("m", "min", ["m"])
    for epoch, value in enumerate([1e-4, 1e-4 - 1e-9], 1):
        best.see({"m": value}, epoch)
        assert best.improved
    assert not best.is_better(1e-4 - 2e-9, best.value, by=1e-4)


NUMBERS = st.floats(allow_nan=False)
SHARES = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("mode", "value", "than", "better"),
    [
        ("min", 0.98e-4, 1e-4, True),  # 2 % of an error as small as the usual absolute min_delta
        ("min", 0.995e-4, 1e-4, False),
        ("max", 30.6, 30.0, True),
        ("max", 30.2, 30.0, False),
        ("min", -1.02, -1.0, True),  # the share is of the magnitude
        ("min", -1.005, -1.0, False),
        ("max", -0.98, -1.0, True),
        ("max", -0.995, -1.0, False),
        ("min", -1e-300, 0.0, True),  # of zero, every gain is more than a share
        ("min", 0.0, 0.0, False),
        ("min", 1e308, math.inf, True),
        ("min", math.inf, math.inf, False),
        ("max", 0.0, -math.inf, True),
        ("max", math.inf, 1.0, True),
        ("min", math.nan, 1.0, False),
        ("min", math.nan, None, False),
        ("min", 1.0, None, True),
    ],
)
def test_a_relative_gain_is_a_share_of_the_magnitude_that_is_to_be_beaten(
    mode: Literal["min", "max"], value: float, than: float | None, better: bool
) -> None:
    assert BestEpoch("m", mode, ["m"]).is_better(value, than, by=0.01, relative=True) is better


@given(NUMBERS, NUMBERS, SHARES, st.booleans())
def test_more_of_a_metric_is_better_where_less_of_its_negative_is(
    value: float, than: float, by: float, relative: bool
) -> None:
    least, most = BestEpoch("m", "min", ["m"]), BestEpoch("m", "max", ["m"])
    assert least.is_better(value, than, by, relative=relative) == most.is_better(-value, -than, by, relative=relative)


@given(NUMBERS, NUMBERS, SHARES, st.booleans())
def test_what_is_better_by_something_is_better(value: float, than: float, by: float, relative: bool) -> None:
    best = BestEpoch("m", "min", ["m"])
    if best.is_better(value, than, by, relative=relative):
        assert best.is_better(value, than)
    assert best.is_better(value, than) == best.is_better(value, than, 0.0, relative=relative) == (value < than)


@given(st.floats(1e-100, 1e100), st.floats(1e-3, 1.5), SHARES, st.integers(-50, 50))
def test_a_relative_gain_does_not_depend_on_the_unit(value: float, ratio: float, by: float, power: int) -> None:
    best = BestEpoch("m", "min", ["m"])
    unit = 2.0**power  # exact, so that rounding has no say
    in_unit = best.is_better(value * ratio * unit, value * unit, by, relative=True)
    assert in_unit == best.is_better(value * ratio, value, by, relative=True)


def test_the_best_survives_a_restart() -> None:
    best, again = BestEpoch("m", "max", ["m"]), BestEpoch("m", "max", ["m"])
    best.see({"m": 3.0}, 4)
    again.load_state_dict(best.state_dict())
    again.see({"m": 2.0}, 5)
    assert (again.value, again.epoch, again.improved) == (3.0, 4, False)


def test_the_whole_chain_agrees_where_no_improvement_is_worth_min_delta(
    make_trainer: Callable[..., Trainer], resolve: Callable[..., ResolvedManifest]
) -> None:
    settings = (
        "train.epochs=4",
        "train.optimizer.learning_rate=1e-4",
        "callbacks.checkpoint={}",
        "callbacks.early_stopping={ patience = 3, min_delta = 10.0 }",
    )
    resolved = resolve(*settings)
    evaluation = run_experiment(resolved, log=lambda _: None, timed=False)
    folder = run_folder(resolved)
    latest, best = load_checkpoint(folder.latest_checkpoint), load_checkpoint(folder.best_checkpoint)
    assert latest.training is not None
    losses = [row["val_loss"] for row in latest.training["history"]]
    assert max(losses) - min(losses) < 10.0  # the first epoch is none to improve on
    assert (number := 1 + losses.index(min(losses))) > 1
    assert (evaluation.epochs, evaluation.best_epoch, evaluation.weights_epoch) == (4, number, number)
    assert evaluation.stop_reason.endswith("has not improved by more than 10 in 3 epochs")
    assert latest.training["best"]["epoch"] == best.epoch == number
    assert best.metrics["val_loss"] == min(losses)
    # What the run leaves was judged anew, and is judged as the best checkpoint is.
    again = make_trainer(*settings)
    again.model.load_state_dict(best.model)
    assert again.validate()["val_mse"] == evaluation.metrics["val_mse"]
    assert json.loads(folder.evaluation.read_text())["best_epoch"] == number
    assert f"epoch {number}" in (folder.root / "report.html").read_text(encoding="utf-8")


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'val_msee' is no metric .*did you mean 'val_mse'\?; its metrics are val_mse"):
        BestEpoch("val_msee", "min", ["val_mse", "val_loss"])
