"""One meaning of best."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imginav import UserError
from imginav.best import Best

VALUES = st.lists(st.floats(allow_nan=True), min_size=1)


@given(VALUES, st.sampled_from(["min", "max"]))
def test_the_best_is_the_first_of_the_best_values_and_never_nan(values: list[float], mode: str) -> None:
    best = Best("m", mode, ["m"])  # type: ignore[arg-type]  # one of two
    for epoch, value in enumerate(values, 1):
        best.see({"m": value}, epoch)
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        assert best.epoch is None
        return
    assert best.value == (min(numbers) if mode == "min" else max(numbers))
    assert best.epoch == 1 + values.index(best.value)


def test_the_smallest_improvement_counts() -> None:
    best = Best("m", "min", ["m"])
    for epoch, value in enumerate([1e-4, 1e-4 - 1e-9], 1):
        best.see({"m": value}, epoch)
        assert best.improved
    assert not best.is_better(1e-4 - 2e-9, best.value, by=1e-4)


def test_the_best_survives_a_restart() -> None:
    best, again = Best("m", "max", ["m"]), Best("m", "max", ["m"])
    best.see({"m": 3.0}, 4)
    again.load_state_dict(best.state_dict())
    again.see({"m": 2.0}, 5)
    assert (again.value, again.epoch, again.improved) == (3.0, 4, False)


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'val_msee' is no metric .*did you mean 'val_mse'\?; its metrics are val_mse"):
        Best("val_msee", "min", ["val_mse", "val_loss"])
