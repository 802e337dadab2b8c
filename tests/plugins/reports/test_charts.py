"""Curves: what is drawn of a history, and how, also where values are missing or strange."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from PIL import Image

from imginav_reports.charts import (
    MOST_POINTS,
    PAGE_COLOURS,
    Panel,
    draw_panel,
    drawings,
    panels,
    scale,
    set_epochs,
    svg,
    write_curves,
)

HISTORY = [
    {
        "epoch": float(n),
        "train_loss": 4.0 / n,
        "val_loss": 5.0 / n,
        "train_loss_mse": 1.0 / n,
        "val_loss_mse": 2.0 / n,
        "train_loss_mse_weighted": 1.0 / n,
        "val_psnr_db": 20.0 + n,
        "learning_rate": 1e-3,
    }
    for n in range(1, 6)
]

NAMESPACE = "{http://www.w3.org/2000/svg}"


def parsed(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing)  # noqa: S314  # made here, by no stranger


def texts(drawing: str) -> list[str]:
    return [element.text or "" for element in parsed(drawing).iter(f"{NAMESPACE}text")]


def test_each_unweighted_term_has_a_panel_of_train_and_validation() -> None:
    assert [(panel.title, list(panel.lines.values())) for panel in panels(HISTORY)] == [
        ("loss", ["train_loss", "val_loss"]),
        ("loss term: mse", ["train_loss_mse", "val_loss_mse"]),
        ("PSNR of the mean MSE (dB)", ["val_psnr_db"]),
        ("learning rate", ["learning_rate"]),
    ]


def test_what_has_no_finite_value_has_no_panel() -> None:
    history = [{"epoch": 1.0, "train_loss": math.nan, "val_loss": math.inf, "val_psnr_db": math.nan}]
    assert panels(history) == []
    assert drawings(history, 1) == []
    assert panels([{**history[0], "val_loss": 1.0}])[0].title == "loss"


def test_a_drawing_is_xml_in_the_colours_and_the_font_of_the_page() -> None:
    (drawing, *_) = drawings(HISTORY, 3)
    text = str(drawing.svg)
    parsed(text)
    for variable in ("currentColor", "var(--train)", "var(--validation)", "var(--accent)", "var(--line)"):
        assert variable in text
    assert not re.search(r"#0[1-7]0[1-7]", text)
    assert "font-family" not in text
    assert "DejaVu" not in text
    assert set(re.findall(r"font[^;\"]*", text)) == {"font-size: calc(12px * var(--text, 1))"}
    assert "epoch" in texts(text)


def test_the_value_beside_a_drawing_is_that_of_validation_at_the_weights() -> None:
    assert [drawing.value for drawing in drawings(HISTORY, 5)] == [1.0, 0.4, 25.0, 1e-3]
    assert drawings(HISTORY, 9)[0].value is None


def test_the_epochs_of_the_weights_and_of_the_best_are_marked() -> None:
    def dashes(weights: int, best: int | None) -> int:
        return str(drawings(HISTORY, weights, best)[0].svg).count("stroke-dasharray")

    assert dashes(3, None) == dashes(3, 3) == 1
    assert dashes(3, 4) == 2


def test_values_that_are_not_finite_are_gaps_and_counted() -> None:
    history = [dict(row) for row in HISTORY]
    history[1]["val_loss"] = math.nan
    history[2]["train_loss"] = math.inf
    assert drawings(history, 1)[0].not_finite == 2
    axes = Figure().subplots()
    draw_panel(axes, panels(history)[0], history, PAGE_COLOURS)
    train, validation = axes.get_lines()
    assert [math.isnan(float(v)) for v in train.get_ydata()] == [False, False, True, False, False]
    assert [math.isnan(float(v)) for v in validation.get_ydata()] == [False, True, False, False, False]


def test_of_a_long_history_the_last_epoch_is_drawn() -> None:
    history = [{"epoch": float(n), "train_loss": 1.0} for n in range(1, 10 * MOST_POINTS)]
    axes = Figure().subplots()
    draw_panel(axes, Panel("loss", {"": "train_loss"}), history, PAGE_COLOURS)
    (line,) = axes.get_lines()
    assert len(line.get_xdata()) <= MOST_POINTS
    assert float(list(line.get_xdata())[-1]) == 10 * MOST_POINTS - 1
    assert line.get_marker() == "None"


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        ([1.0, 1.2], False),
        ([1.0, 10.0], True),
        ([0.0, 10.0], False),
        ([1e-7, 10.0, math.nan], True),
        ([math.nan], False),
    ],
)
def test_an_axis_is_logarithmic_where_values_are_far_apart_and_has_figures_to_read(
    values: list[float], *, logarithmic: bool
) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot(values)
    scale(axes, values)
    assert axes.get_yscale() == ("log" if logarithmic else "linear")
    figure.canvas.draw()
    low, high = axes.get_ylim()
    labels = [t.get_text() for t in axes.get_yticklabels() if low <= t.get_position()[1] <= high and t.get_text()]
    assert 2 <= len(labels) <= 12
    assert len(set(labels)) == len(labels)


def test_a_single_epoch_has_one_whole_number_below_it() -> None:
    axes = Figure().subplots()
    axes.plot([4], [1.0])
    set_epochs(axes, [4.0])
    assert list(axes.get_xticks()) == [4]
    assert "4" in texts(str(drawings([HISTORY[3]], 4)[0].svg))


def test_a_dollar_sign_in_a_name_begins_no_formula(tmp_path: Path) -> None:
    name = "$\\frac$ & <x>"
    history = [{**row, f"train_loss_{name}": 1.0, f"val_loss_{name}": 2.0} for row in HISTORY]
    write_curves(tmp_path / "curves.png", history, 2)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 800
    drawn = svg(lambda axes: axes.set_title(name) and None, "name", name)
    assert name in texts(str(drawn))
    assert parsed(str(drawn)).get("aria-label") == name


def test_drawings_of_a_page_share_no_name_for_what_they_look_up() -> None:
    found = [set(re.findall(r"url\(#([^)]+)\)", str(drawing.svg))) for drawing in drawings(HISTORY, 1)]
    assert all(found)
    assert len(set.union(*found)) == sum(map(len, found))


def test_a_drawing_is_the_same_each_time() -> None:
    assert drawings(HISTORY, 1) == drawings(HISTORY, 1)


def test_no_picture_is_written_where_there_is_nothing_to_draw(tmp_path: Path) -> None:
    write_curves(tmp_path / "curves.png", [{"epoch": 1.0, "train_loss": math.nan}], 1)
    assert list(tmp_path.iterdir()) == []
