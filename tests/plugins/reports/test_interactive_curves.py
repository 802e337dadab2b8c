"""Curves as data for a page, and the library that draws them."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from imginav_reports.charts import panels
from imginav_reports.interactive_curves import MOST_POINTS, VENDOR, library, plots_of_epochs, plots_of_steps

HISTORY = [
    {"epoch": n, "train_loss": 1 / n, "val_loss": math.nan if n == 2 else 2.0, "val_psnr_db": 20.0 + n}
    for n in (1, 2, 3, 4)
]


def step(number: int, steps: int = 1, **values: float) -> dict[str, float]:
    return {"step": number, "epoch": 1, "steps": steps, **values}


def test_each_panel_of_the_epochs_has_its_curves_with_gaps_where_a_value_is_not_finite() -> None:
    loss, psnr = plots_of_epochs(HISTORY, 3, 4)
    assert [loss["title"], psnr["title"]] == [panel.title for panel in panels(HISTORY)]
    assert (loss["x"], loss["xs"]) == ("epoch", [1, 2, 3, 4])
    train, validation = loss["series"]
    assert (train["label"], train["values"]) == ("train", [1, 0.5, 0.333333, 0.25])
    assert (validation["label"], validation["values"]) == ("validation", [2, None, 2, 2])
    assert [mark["at"] for mark in loss["marks"]] == [3, 4]
    assert [mark["at"] for mark in plots_of_epochs(HISTORY, 3, 3)[0]["marks"]] == [3]
    assert loss["log"]  # from 0.25 to 2
    assert not psnr["log"]
    assert plots_of_epochs([], 1, None) == []


def test_steps_have_a_plot_for_each_value_that_is_known() -> None:
    rows = [
        step(n, loss_mse=0.5 / n, loss=1.0, min_loss=1.0, max_loss=1.0, gradient_norm=math.nan, learning_rate=0.1 / n)
        for n in (1, 2, 9)
    ]
    plots = plots_of_steps(rows)
    assert [plot["title"] for plot in plots] == ["loss", "loss term: mse", "learning rate"]
    assert [(one["label"], one["values"]) for one in plots[0]["series"]] == [("value", [1, 1, 1])]
    assert plots[0]["xs"] == [1, 2, 9]
    assert [plot["log"] for plot in plots] == [False, True, False]
    assert plots_of_steps([]) == []


def test_rows_of_several_steps_have_their_range_as_a_band() -> None:
    rows = [step(2, 2, loss=1.0, min_loss=0.5, max_loss=1.5), step(3, 1, loss=0.2, min_loss=0.2, max_loss=0.2)]
    (plot,) = plots_of_steps(rows)
    assert [(one["label"], one["values"], one.get("band", False)) for one in plot["series"]] == [
        ("mean", [1, 0.2], False),
        ("largest", [1.5, 0.2], True),
        ("least", [0.5, 0.2], True),
    ]


@pytest.mark.parametrize("count", [1, MOST_POINTS, MOST_POINTS + 1, 7 * MOST_POINTS + 3])
def test_of_many_rows_some_are_drawn_the_last_among_them(count: int) -> None:
    (plot,) = plots_of_steps([step(n, loss=1.0) for n in range(1, count + 1)])
    assert len(plot["xs"]) <= MOST_POINTS
    assert len(plot["xs"]) > min(count, MOST_POINTS) // 2
    assert plot["xs"][-1] == count


def test_numbers_have_the_digits_that_a_screen_can_show() -> None:
    values: list[Any] = [0.123456789, 3.0, -1e-7, 1e20, math.inf]
    (plot,) = plots_of_steps([step(n, loss=value) for n, value in enumerate(values)])
    assert plot["series"][0]["values"] == [0.123457, 3, -1e-7, 1e20, None]


def test_the_library_is_inlined_as_it_came_with_its_version_and_licence() -> None:
    found = library()
    (version,) = re.findall(r"uPlot \(v([\d.]+)\)", found["script"])
    readme = (VENDOR / "README.md").read_text(encoding="utf-8")
    assert f"| {version} | MIT" in readme
    assert "The MIT License" in (VENDOR / "uPlot-LICENSE").read_text(encoding="utf-8")
    for text in found.values():
        assert "</" not in text or not re.search("</(script|style)", text)
        assert not re.search(r"url\(|@import|\bfetch\(|XMLHttpRequest", text)
    assert sum(map(len, found.values())) < 80_000
