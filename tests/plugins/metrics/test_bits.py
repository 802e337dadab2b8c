"""The bits of a layout beside a coder that codes one pixel after the other, and maps whose bits are known."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imginav import CannotMeasure, DataSpec
from imginav_metrics import LayoutBits
from imginav_metrics.bits import NEIGHBOURS, CodedLayouts


def bits_of(layouts: Tensor, classes: int) -> Tensor:
    return CodedLayouts.of(layouts, classes).bits()


class Coder:
    """Codes pixel by pixel: each has a probability that depends on those before it alone."""

    def __init__(self, layout: Tensor, classes: int) -> None:
        self.layout, self.classes = layout, classes
        self.counts: dict[tuple[int, ...], Counter[int]] = {}
        self.new: Counter[int] = Counter()
        self.bits = 0.0
        height, width = layout.shape
        for y in range(height):
            for x in range(width):
                self._code(int(layout[y, x]), [self.at(y + down, x + right) for down, right in NEIGHBOURS])

    def at(self, y: int, x: int) -> int:
        inside = 0 <= y < self.layout.shape[0] and 0 <= x < self.layout.shape[1]
        return int(self.layout[y, x]) if inside else -1

    def _code(self, pixel: int, neighbours: list[int]) -> None:
        equal = tuple(neighbours.index(value) for value in neighbours)
        symbols = [*sorted(set(equal)), len(NEIGHBOURS)]
        counts = self.counts.setdefault(equal, Counter())
        symbol = _first(pixel, neighbours)
        probabilities = {s: (counts[s] + 0.5) / (counts.total() + 0.5 * len(symbols)) for s in symbols}
        assert sum(probabilities.values()) == pytest.approx(1)
        self.bits -= math.log2(probabilities[symbol])
        counts[symbol] += 1
        if symbol == len(NEIGHBOURS):
            self.bits -= math.log2((self.new[pixel] + 0.5) / (self.new.total() + 0.5 * self.classes))
            self.new[pixel] += 1

    def bits_in_the_end(self, pixel: int, neighbours: list[int]) -> float:
        """Return what a pixel costs with the counts of the whole layout."""
        equal = tuple(neighbours.index(value) for value in neighbours)
        counts, symbol = self.counts[equal], _first(pixel, neighbours)
        bits = -math.log2((counts[symbol] + 0.5) / (counts.total() + 0.5 * (len(set(equal)) + 1)))
        if symbol == len(NEIGHBOURS):
            bits -= math.log2((self.new[pixel] + 0.5) / (self.new.total() + 0.5 * self.classes))
        return bits


def _first(pixel: int, neighbours: list[int]) -> int:
    return neighbours.index(pixel) if pixel in neighbours else len(NEIGHBOURS)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32))
def test_the_bits_are_those_of_a_coder_that_learns_as_it_goes(height: int, width: int, classes: int, seed: int) -> None:
    layouts = torch.randint(0, classes, (3, height, width), generator=torch.Generator().manual_seed(seed))
    expected = [Coder(layout, classes).bits for layout in layouts]
    assert bits_of(layouts, classes).tolist() == pytest.approx(expected)


def test_a_blank_layout_holds_next_to_nothing_and_noise_all_that_its_classes_can() -> None:
    blank = torch.full((1, 256, 256), 3)
    noise = torch.randint(0, 16, (1, 256, 256), generator=torch.Generator().manual_seed(0))
    assert 0 < bits_of(blank, 16) < 64
    # A little more than 4 bits a pixel: it is told first whether a neighbour has the class.
    assert 4 * 256**2 < bits_of(noise, 16) < 4.4 * 256**2


def test_a_layout_costs_the_same_wherever_it_stands_in_a_batch_and_whatever_its_classes_are_called() -> None:
    layouts = torch.randint(0, 3, (4, 16, 16), generator=torch.Generator().manual_seed(1))
    bits = bits_of(layouts, 3)
    assert torch.equal(bits_of(layouts.flip(0), 3).flip(0), bits)
    torch.testing.assert_close(bits_of(2 - layouts, 3), bits)


def test_it_is_the_mean_over_layouts_and_pixels_of_no_class_are_a_class_of_their_own(spec: DataSpec) -> None:
    truth = torch.zeros(2, 32, 32, dtype=torch.long)
    truth[1, 8:20, 8:20] = 255
    measurement = LayoutBits().build(spec, [], 32)
    rows = measurement.rows({}, {"segmentation": truth})
    classes = len(spec.palette)
    known = torch.where(truth == 255, classes, truth)
    assert rows["bits"].tolist() == bits_of(known, classes + 1).tolist()
    assert rows["bits"][1] > rows["bits"][0] + 20
    figures = measurement.figures(rows)
    assert figures["bits_per_layout"] == pytest.approx(rows["bits"].mean().item())
    assert figures.keys() == LayoutBits().definitions.keys()


def test_images_without_classes_have_no_bits(spec: DataSpec) -> None:
    with pytest.raises(CannotMeasure, match="does not say which class"):
        LayoutBits().build(evolve(spec, targets=("rgb",)), ["rgb"], 32)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32))
def test_cells_hold_what_their_pixels_cost_once_all_counts_are_known(
    height: int, width: int, classes: int, seed: int
) -> None:
    layouts = torch.randint(0, classes, (2, height, width), generator=torch.Generator().manual_seed(seed))
    cells = CodedLayouts.of(layouts, classes).bits_of_cells(4)
    columns = math.ceil(width / 4)
    assert cells.shape == (2, math.ceil(height / 4) * columns)
    for layout, found in zip(layouts, cells, strict=True):
        coder = Coder(layout, classes)
        expected = torch.zeros_like(found)
        for y in range(height):
            for x in range(width):
                neighbours = [coder.at(y + down, x + right) for down, right in NEIGHBOURS]
                expected[y // 4 * columns + x // 4] += coder.bits_in_the_end(int(layout[y, x]), neighbours)
        torch.testing.assert_close(found, expected)


def test_the_fullest_tenth_has_all_bits_of_a_single_ragged_spot_and_its_share_of_even_noise(spec: DataSpec) -> None:
    generator = torch.Generator().manual_seed(0)
    spot = torch.zeros(1, 128, 128, dtype=torch.long)
    spot[0, 32:48, 64:80] = torch.randint(0, 4, (16, 16), generator=generator)
    noise = torch.randint(0, 4, (1, 128, 128), generator=generator)
    measurement = LayoutBits().build(spec, [], 128)
    shares = [
        measurement.figures(measurement.rows({}, {"segmentation": truth}))["bits_in_fullest_tenth"]
        for truth in (spot, noise)
    ]
    assert shares[0] > 0.9
    assert 0.09 < shares[1] < 0.11  # 6 of 64 cells
