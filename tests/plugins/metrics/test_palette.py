"""Classes by colour, walls and boundaries against values computed by hand, scikit-image and torchmetrics."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from attrs import evolve
from skimage.morphology import dilation, footprint_rectangle
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index

from imginav import CannotMeasure, DataSpec
from imginav.plugin.palette import Palette
from imginav_datasets.classes import PALETTE
from imginav_metrics import PaletteClasses
from imginav_metrics.palette import boundary_pixels, nearest_classes

BED, OTHERS, WALL, BACKGROUND = (PALETTE.names.index(name) for name in ("bed", "others", "wall", "background"))

Draw = Callable[[Tensor], Tensor]
Measure = Callable[..., dict[str, float]]


@pytest.fixture
def measure(spec: DataSpec, draw: Draw) -> Measure:
    """Return the figures of classes (N, H, W) that are rebuilt as other classes, or as images."""

    def measure(truth: Tensor, rebuilt: Tensor, metric: PaletteClasses | None = None) -> dict[str, float]:
        images = rebuilt if rebuilt.dim() == 4 else draw(rebuilt)
        measurement = (metric or PaletteClasses()).build(spec, ["rgb"], truth.shape[-1])
        return dict(measurement.figures(measurement.rows({"rgb": images}, {"segmentation": truth})))

    return measure


def layout(*lines: str) -> Tensor:
    """Return the classes (1, H, W) of a layout in letters: b bed, # wall, . background, ? none."""
    classes = {"b": BED, "#": WALL, ".": BACKGROUND, "?": 255}
    return torch.tensor([[[classes[letter] for letter in line] for line in lines]])


def random_classes(count: int, side: int, seed: int) -> Tensor:
    """Return classes (count, side, side) of tiles that are 4 pixels wide."""
    generator = torch.Generator().manual_seed(seed)
    tiles = torch.randint(0, 10, (count, side // 4, side // 4), generator=generator)
    return tiles.repeat_interleave(4, 1).repeat_interleave(4, 2)


def test_the_nearest_colour_is_that_of_the_palette() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    rgb[0, 0] = 220  # between wall and background
    images = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1
    classes, distance = nearest_classes(images, PALETTE)
    assert np.array_equal(classes[0].numpy(), PALETTE.nearest(rgb))
    expected = np.linalg.norm(rgb.astype(float) - np.array(PALETTE.colours)[PALETTE.nearest(rgb)], axis=-1)
    np.testing.assert_allclose(distance[0].numpy(), expected, rtol=1e-5)
    assert classes[0, 0, 0] == WALL


def test_shares_by_hand(measure: Measure) -> None:
    truth = layout("bb..", "bb..", "....", "??..")
    rebuilt = layout("b...", "b...", "...b", "bb..")
    found = measure(truth, rebuilt)
    assert found["palette_accuracy"] == pytest.approx(11 / 14)
    assert found["foreground_accuracy"] == pytest.approx(2 / 4)
    # Bed: two of four and one that is none; background: nine of ten and two that are none.
    assert found["mean_iou"] == pytest.approx((2 / 5 + 9 / 12) / 2)
    assert found["rebuilt_unmatched_share"] == 0


def test_iou_and_recall_are_there_of_each_class(spec: DataSpec, draw: Draw) -> None:
    truth, rebuilt = layout("bb..", "##.."), layout("b...", "##..")
    measurement = PaletteClasses().build(spec, ["rgb"], 4)
    classes = measurement.per_class(measurement.rows({"rgb": draw(rebuilt)}, {"segmentation": truth}))
    assert list(classes["iou"]) == list(classes["recall"]) == list(PALETTE.names)
    assert (classes["iou"]["bed"], classes["recall"]["bed"]) == (0.5, 0.5)
    assert (classes["iou"]["background"], classes["recall"]["background"]) == (0.8, 1)
    assert math.isnan(classes["iou"]["sofa"])
    assert measurement.confusion(measurement.rows({"rgb": draw(rebuilt)}, {"segmentation": truth})) == {
        "bed": {"bed": 1, "background": 1},
        "wall": {"wall": 2},
        "background": {"background": 4},
    }


def test_mean_iou_is_that_of_torchmetrics(measure: Measure, draw: Draw) -> None:
    truth, rebuilt = random_classes(3, 16, 0), random_classes(3, 16, 1)
    truth[0, 0] = 255
    noisy = draw(rebuilt) + 0.02 * torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    expected = multiclass_jaccard_index(rebuilt, truth, 10, ignore_index=255)
    assert measure(truth, noisy)["mean_iou"] == pytest.approx(float(expected), rel=1e-5)


def test_figures_of_some_layouts_follow_from_their_rows(spec: DataSpec, draw: Draw, measure: Measure) -> None:
    truth, rebuilt = random_classes(4, 16, 0), random_classes(4, 16, 1)
    measurement = PaletteClasses().build(spec, ["rgb"], 16)
    rows = measurement.rows({"rgb": draw(rebuilt)}, {"segmentation": truth})
    some = [0, 3]
    assert measurement.figures({key: kept[some] for key, kept in rows.items()}) == measure(truth[some], rebuilt[some])


def test_colours_that_are_near_no_class_are_counted(measure: Measure, draw: Draw) -> None:
    truth = layout("....", "...?")
    images = draw(torch.full_like(truth, BACKGROUND))
    images[0, :, 0, 0] = -1.0  # black, farther than the tolerance from everything
    images[0, 0, 0, 1] -= 29 / 127.5  # within
    images[0, 0, 0, 2] -= 31 / 127.5  # without
    images[0, :, 1, 3] = -1.0  # also where the truth is no class
    found = measure(truth, images)
    assert found["rebuilt_unmatched_share"] == pytest.approx(3 / 8)
    assert found["palette_accuracy"] == pytest.approx(6 / 7)  # black is nearest to something all the same
    assert measure(truth, images, PaletteClasses(colour_tolerance=0))["rebuilt_unmatched_share"] == pytest.approx(4 / 8)


def test_values_that_are_not_finite_match_nothing(measure: Measure, draw: Draw) -> None:
    truth = layout("....", "....")
    images = draw(truth)
    images[0, 1, 0, 0] = torch.nan
    found = measure(truth, images)
    assert found["rebuilt_unmatched_share"] == pytest.approx(1 / 8)
    assert found["palette_accuracy"] == pytest.approx(7 / 8)


WALL_LINE = ("....#....",) * 9


@pytest.mark.parametrize(
    ("rebuilt", "recall", "precision"),
    [
        (WALL_LINE, 1, 1),
        ((".....#...",) * 9, 1, 1),  # a pixel beside
        (("......#..",) * 9, 0, 0),  # two
        ((".........",) * 9, 0, None),  # lost
        (("....##...",) * 9, 1, 1),  # wider
        (("...###...",) * 9, 1, 1),
        (("#########",) * 9, 1, 3 / 9),  # everywhere
        (("....#....",) * 4 + (".........",) * 5, 5 / 9, 1),
        ((".........",) * 4 + (".....#...",) + (".........",) * 4, 3 / 9, 1),  # diagonals count
    ],
)
def test_walls_may_be_a_pixel_off(
    measure: Measure, rebuilt: tuple[str, ...], recall: float, precision: float | None
) -> None:
    found = measure(layout(*WALL_LINE), layout(*rebuilt))
    assert found["wall_recall"] == pytest.approx(recall)
    assert (
        math.isnan(found["wall_precision"])
        if precision is None
        else found["wall_precision"] == pytest.approx(precision)
    )


def test_rebuilt_walls_where_the_truth_is_no_class_are_not_wrong(measure: Measure) -> None:
    truth, rebuilt = layout("#..???"), layout("#...##")
    assert measure(truth, rebuilt)["wall_precision"] == 1
    # Yet they count as near a true one.
    assert measure(layout("#?...."), layout(".#...."))["wall_recall"] == 1


def test_walls_are_as_a_dilation_of_scikit_image_has_them(measure: Measure) -> None:
    truth, rebuilt = (torch.where(random_classes(1, 32, seed) < 4, WALL, BACKGROUND) for seed in (0, 1))
    square = footprint_rectangle((3, 3))
    true, own = (classes[0].numpy() == WALL for classes in (truth, rebuilt))
    found = measure(truth, rebuilt)
    assert found["wall_recall"] == pytest.approx((true & dilation(own, square)).sum() / true.sum())
    assert found["wall_precision"] == pytest.approx((own & dilation(true, square)).sum() / own.sum())


def test_a_palette_without_walls_has_no_figures_of_them(spec: DataSpec, draw: Draw) -> None:
    metric = PaletteClasses(wall="Mauer")
    measurement = metric.build(spec, ["rgb"], 4)
    truth = layout("##..", "##..")
    found = measurement.figures(measurement.rows({"rgb": draw(truth)}, {"segmentation": truth}))
    assert math.isnan(found["wall_recall"])
    assert math.isnan(found["wall_precision"])
    assert found["palette_accuracy"] == 1
    assert "none without a class 'Mauer'" in metric.definitions["wall_recall"]


def test_a_palette_of_other_classes_has_its_own_walls(draw: Draw) -> None:
    names = ("floor", "line", "door")
    palette = Palette(names=names, colours=((0, 0, 0), (255, 255, 255), (255, 0, 0)), background="floor")
    spec = DataSpec(palette=palette, labels=(), targets=("rgb", "segmentation"))
    measurement = PaletteClasses(wall="line").build(spec, ["rgb"], 2)
    truth = torch.tensor([[[1, 1], [0, 2]]])
    images = torch.from_numpy(palette.colour(truth.numpy().astype(np.uint8))).permute(0, 3, 1, 2).float() / 127.5 - 1
    rows = measurement.rows({"rgb": images}, {"segmentation": truth})
    assert measurement.figures(rows)["wall_recall"] == 1
    assert measurement.figures(rows)["foreground_accuracy"] == 1
    assert list(measurement.per_class(rows)["iou"]) == list(names)


def test_boundaries_are_where_the_class_differs_to_the_right_or_below() -> None:
    classes = layout("bb...", "bb...", ".....", "....#")
    expected = [[0, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 0]]
    assert boundary_pixels(classes, classes != 255).int()[0].tolist() == expected


def test_there_is_no_boundary_with_what_is_not_known() -> None:
    classes = layout("b?..", "b?..")
    assert not boundary_pixels(classes, classes != 255).any()
    classes = layout("bb?", "##?")
    assert boundary_pixels(classes, classes != 255).int()[0].tolist() == [[1, 1, 0], [0, 0, 0]]


def test_a_true_boundary_is_found_beside_what_is_not_known(measure: Measure) -> None:
    truth, rebuilt = layout("b.??..##"), layout("bb....##")
    assert measure(truth, rebuilt)["boundary_f1"] == 1


def halves(edge: int) -> Tensor:
    """Return a layout whose first columns are bed."""
    return layout(*["b" * edge + "." * (12 - edge)] * 12)


@pytest.mark.parametrize(("tolerance", "off", "expected"), [(0, 0, 1), (0, 1, 0), (1, 1, 1), (1, 2, 0), (2, -2, 1)])
def test_boundaries_may_be_off_by_the_tolerance(measure: Measure, tolerance: int, off: int, expected: float) -> None:
    found = measure(halves(6), halves(6 + off), PaletteClasses(boundary_tolerance=tolerance))
    assert found["boundary_f1"] == expected


def test_the_boundary_score_is_the_harmonic_mean_of_precision_and_recall(measure: Measure) -> None:
    truth = layout("b.......", "b.......", "b.......", "b.......")
    rebuilt = layout("b...b...", "b...b...", "b.......", "........")
    found = measure(truth, rebuilt, PaletteClasses(boundary_tolerance=0))
    own = boundary_pixels(rebuilt, rebuilt != 255)[0]
    true = boundary_pixels(truth, truth != 255)[0]
    recall, precision = (own & true).sum() / true.sum(), (own & true).sum() / own.sum()
    assert (float(recall), float(precision)) == pytest.approx((3 / 4, 3 / 7))
    assert found["boundary_f1"] == pytest.approx(float(2 * recall * precision / (recall + precision)))


@pytest.mark.parametrize("tolerance", [0, 1, 3])
def test_the_boundary_score_is_that_of_dilations_of_scikit_image(measure: Measure, tolerance: int) -> None:
    truth, rebuilt = random_classes(1, 32, 0), random_classes(1, 32, 0)
    rebuilt[0, 8:20, 6:17] = OTHERS
    true, own = (edges(classes[0].numpy()) for classes in (truth, rebuilt))
    square = footprint_rectangle((2 * tolerance + 1, 2 * tolerance + 1))
    recall = (true & dilation(own, square)).sum() / true.sum()
    precision = (own & dilation(true, square)).sum() / own.sum()
    found = measure(truth, rebuilt, PaletteClasses(boundary_tolerance=tolerance))
    assert found["boundary_f1"] == pytest.approx(2 * recall * precision / (recall + precision))
    assert 0.5 < found["boundary_f1"] < 1


def edges(classes: np.ndarray) -> np.ndarray:
    """Return where classes (H, W) differ from what lies to the right, below, or both; outside is as the last pixel."""
    wider = np.pad(classes, ((0, 1), (0, 1)), mode="edge")
    found: np.ndarray = (classes != wider[:-1, 1:]) | (classes != wider[1:, :-1]) | (classes != wider[1:, 1:])
    return found


def test_a_blank_layout_that_is_rebuilt_has_what_can_be_said_of_it(measure: Measure) -> None:
    blank = torch.full((2, 16, 16), BACKGROUND)
    found = measure(blank, blank)
    assert (found["palette_accuracy"], found["mean_iou"], found["rebuilt_unmatched_share"]) == (1, 1, 0)
    unknown = ("foreground_accuracy", "wall_recall", "wall_precision", "boundary_f1")
    assert all(math.isnan(found[name]) for name in unknown)


def test_a_layout_that_is_rebuilt_blank_has_lost_everything(measure: Measure) -> None:
    truth = random_classes(1, 16, 0)
    blank = torch.full_like(truth, BACKGROUND)
    found = measure(truth, blank)
    assert (found["foreground_accuracy"], found["wall_recall"], found["boundary_f1"]) == (0, 0, 0)
    assert measure(blank, truth)["boundary_f1"] == 0


def test_identical_layouts_are_right_in_everything(measure: Measure) -> None:
    truth = random_classes(2, 32, 0)
    found = measure(truth, truth)
    assert found.pop("rebuilt_unmatched_share") == 0
    assert set(found.values()) == {1.0}


def test_an_inverted_layout_is_right_in_nothing(measure: Measure, draw: Draw) -> None:
    truth = torch.full((1, 16, 16), BACKGROUND)
    truth[:, 4:12, 4:12] = WALL
    found = measure(truth, -draw(truth))
    assert (found["palette_accuracy"], found["mean_iou"], found["wall_recall"]) == (0, 0, 0)


def test_a_single_pixel_is_a_layout(measure: Measure) -> None:
    found = measure(layout("#"), layout("#"))
    assert (found["palette_accuracy"], found["wall_recall"]) == (1, 1)
    assert math.isnan(found["boundary_f1"])


def test_layouts_of_no_class_at_all_have_no_shares(measure: Measure) -> None:
    found = measure(layout("??", "??"), layout("b#", "#b"))
    assert found.pop("rebuilt_unmatched_share") == 0
    assert all(math.isnan(figure) for figure in found.values())


def test_without_pixels_or_classes_it_cannot_be_measured(spec: DataSpec) -> None:
    with pytest.raises(CannotMeasure, match="the autoencoder has no output rgb"):
        PaletteClasses().build(spec, ["segmentation"], 4)
    with pytest.raises(CannotMeasure, match="the data set does not say which class a pixel is of"):
        PaletteClasses().build(evolve(spec, targets=("rgb", "label")), ["rgb"], 4)


def test_a_layout_is_exact_where_no_known_pixel_is_wrong(measure: Measure) -> None:
    exact = layout("bb..", "??..")
    wrong = layout("b...", "....")
    unknown = layout("????", "????")
    truth = torch.cat([exact, exact, unknown])
    assert measure(truth, torch.cat([layout("bb..", "bb.."), wrong, wrong]))["exact_share"] == 0.5
    assert math.isnan(measure(unknown, wrong)["exact_share"])
