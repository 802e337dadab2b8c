"""What metrics keep of layouts, and the figures of all, of types, of one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
import torch
from attrs import frozen
from torch import Tensor

from imginav import CannotMeasure, DataSpec, Measurement, Metric, UserError
from imginav.plugin.palette import Palette
from imginav.training.device import Device
from imginav.training.metric_definitions import figure_definitions
from imginav_evaluation.reconstruction import Reconstructions
from imginav_tests.csv_tables import read_table

PALETTE = Palette(names=("red", "white"), colours=((255, 0, 0), (255, 255, 255)), background="white")
SPEC = DataSpec(palette=PALETTE, labels=("room", "scene"), targets=("rgb", "segmentation", "label"))
DEVICE = Device(torch.device("cpu"), torch.float32, torch.contiguous_format, 0)


@frozen(kw_only=True)
class Brightness(Metric):
    """Mean brightness of what is rebuilt."""

    figure: str = "brightness"
    without: str = ""  # says why it cannot be measured
    wrong: str = ""  # says what is wrong with its keys

    @property
    def definitions(self) -> Mapping[str, str]:
        return {self.figure: "mean of all pixels"}

    @property
    def more_is_better(self) -> Collection[str]:
        return (self.figure,)

    def build(self, spec: DataSpec, outputs: Collection[str], image_size: int) -> Measurement:
        if self.without:
            raise CannotMeasure(self.without)
        if self.wrong:
            raise UserError(self.wrong)
        return BrightnessRows(self.figure)


class BrightnessRows(Measurement, torch.nn.Module):
    def __init__(self, figure: str) -> None:
        super().__init__()
        self.figure = figure

    def rows(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {"mean": outputs["rgb"].mean(dim=(1, 2, 3))}

    def figures(self, rows: Mapping[str, Tensor]) -> Mapping[str, float]:
        return {self.figure: float(rows["mean"].mean())}

    def per_class(self, rows: Mapping[str, Tensor]) -> Mapping[str, Mapping[str, float]]:
        return {self.figure: {"red": float(len(rows["mean"]))}}

    def confusion(self, rows: Mapping[str, Tensor]) -> Mapping[str, Mapping[str, int]]:
        return {"red": {"white": len(rows["mean"])}}


def seen(metrics: Mapping[str, Metric] | None = None) -> Reconstructions:
    """Return four layouts, a batch of three and one of one, with errors 0.1, 0.4, 0.2, 0.3 against black."""
    found = Reconstructions(metrics or {"brightness": Brightness()}, SPEC, ("rgb",), 2, DEVICE)
    values = torch.tensor([0.1, 0.4, 0.2, 0.3]).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    labels = torch.tensor([0, 1, 0, 255])
    for part in (slice(0, 3), slice(3, 4)):
        found.see({"rgb": values[part]}, {"rgb": torch.zeros_like(values[part]), "label": labels[part]})
    return found


NAMES = ["a", "b", "c", "d"]


def test_figures_are_of_all_layouts_of_types_and_of_single_ones() -> None:
    found = seen()
    assert found.figures() == {"val_brightness": pytest.approx(0.25)}
    summary = found.summary(NAMES, 8)
    assert summary.layouts == {"room": 2, "scene": 1}
    assert summary.by_type["room"] == {"val_brightness": pytest.approx(0.15)}
    assert summary.by_type["scene"] == {"val_brightness": pytest.approx(0.4)}
    assert summary.by_class == {"val_brightness": {"red": 4.0}}
    assert summary.confusion == {"brightness": {"red": {"white": 4}}}
    assert summary.definitions == {"val_brightness": "mean of all pixels"}
    assert summary.more_is_better == ("val_brightness",)


def test_figures_that_were_asked_for_too_early_are_asked_for_again() -> None:
    found = seen()
    found.figures()
    found.see({"rgb": torch.ones(1, 3, 2, 2)}, {"rgb": torch.zeros(1, 3, 2, 2)})
    assert found.figures() == {"val_brightness": pytest.approx(0.4)}


def test_the_worst_and_the_best_are_ranked_by_their_error() -> None:
    summary = seen().summary(NAMES, 3)
    assert [layout.name for layout in summary.worst] == ["b", "d", "c"]
    assert [layout.name for layout in summary.best] == ["a", "c", "d"]
    assert summary.worst[0].mse == pytest.approx(0.16)
    assert [layout.type for layout in summary.worst] == ["scene", "", "room"]


def test_a_layout_without_a_finite_error_is_in_no_rank() -> None:
    found = Reconstructions({}, SPEC, ("rgb",), 2, DEVICE)
    values = torch.tensor([0.1, math.nan]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    found.see({"rgb": values}, {"rgb": torch.zeros_like(values)})
    summary = found.summary(["a", "b"], 8)
    assert [layout.name for layout in summary.worst] == ["a"]
    assert summary.layouts == summary.by_type == {}


def test_the_flat_background_is_what_a_constant_picture_would_cost() -> None:
    # Black (-1) against a white background (1), by two of the three layouts.
    found = Reconstructions({}, SPEC, ("rgb",), 2, DEVICE)
    images = torch.stack([torch.full((3, 2, 2), value) for value in (-1.0, -1.0, 1.0)])
    found.see({"rgb": images}, {"rgb": images})
    assert found.flat_background_mse == pytest.approx(8 / 3)


def test_an_autoencoder_without_pixels_has_no_ranks() -> None:
    found = Reconstructions({}, SPEC, ("segmentation",), 2, DEVICE)
    found.see({"segmentation": torch.zeros(2, 2, 2, 2)}, {"rgb": torch.zeros(2, 3, 2, 2)})
    assert found.summary(["a", "b"], 8).worst == ()


def test_a_row_for_each_layout_is_written(tmp_path: Path) -> None:
    seen().write_csv(tmp_path / "layouts.csv", NAMES)
    rows = read_table(tmp_path / "layouts.csv")
    assert [(row["layout"], row["type"]) for row in rows] == [("a", "room"), ("b", "scene"), ("c", "room"), ("d", "")]
    assert [float(row["val_brightness"]) for row in rows] == pytest.approx([0.1, 0.4, 0.2, 0.3])


def test_what_cannot_be_measured_says_why_and_leaves_the_others() -> None:
    found = seen({"brightness": Brightness(), "lpips": Brightness(figure="lpips", without="there are no weights")})
    assert found.figures() == {"val_brightness": pytest.approx(0.25)}
    assert found.summary(NAMES, 1).not_measured == {"lpips": "there are no weights"}


def test_a_metric_that_is_told_what_cannot_be_is_named() -> None:
    with pytest.raises(UserError, match=r"evaluation\.metrics\.mine: weights = 'x': no such file"):
        seen({"mine": Brightness(wrong="weights = 'x': no such file")})


def test_two_metrics_of_one_figure_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"evaluation\.metrics\.two and evaluation\.metrics\.one both measure 'brightness'"
    ):
        figure_definitions({"one": Brightness(), "two": Brightness()})
