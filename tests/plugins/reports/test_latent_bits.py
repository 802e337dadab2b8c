"""The bits of a latent beside those of a layout."""

from __future__ import annotations

import math
from typing import Any

import pytest

from imginav.runs.evaluation_result import Channel, EvaluationResult, NoiseLevel
from imginav_reports.latent_bits import latent_bits
from imginav_reports.run_summary import facts
from imginav_tests import evaluations


def of_layouts(bits: float, fullest: float | None = None, **changes: Any) -> EvaluationResult:
    """Return the evaluation of a latent of 8 × 8 cells, whose channels are as wide as all values together."""
    found = {
        "std": 2.0,
        "channels": tuple(Channel(mean=0.0, std=2.0, dead=False) for _ in range(3)),
        "noise": tuple(NoiseLevel(level=level, mse=0.0, mse_added=0.0) for level in (0.0, 0.05, 0.2)),
        **changes,
    }
    metrics = {"val_bits_per_layout": bits, **({} if fullest is None else {"val_bits_in_fullest_tenth": fullest})}
    return evaluations.evaluation(metrics=metrics, latent_statistics=evaluations.latent(**found))


def test_a_channel_carries_the_capacity_of_a_gaussian_one_at_the_strongest_noise() -> None:
    bits = latent_bits(of_layouts(100.0))
    assert bits is not None
    assert bits.level == 0.2
    assert bits.capacity == pytest.approx(64 * 3 * 0.5 * math.log2(26))
    assert bits.ratio == pytest.approx(bits.capacity / 100)


def test_a_narrow_channel_carries_less_and_a_dead_one_nothing() -> None:
    channels = tuple(Channel(mean=0.0, std=std, dead=not std) for std in (4.0, 0.4, 0.0))
    bits = latent_bits(of_layouts(100.0, channels=channels))
    assert bits is not None
    assert bits.capacity == pytest.approx(64 * 0.5 * (math.log2(101) + 1))


@pytest.mark.parametrize(("content", "oversized"), [(100.0, True), (113.0, False)])
def test_a_latent_that_is_far_larger_than_its_content_is_called_oversized(content: float, oversized: bool) -> None:
    bits = latent_bits(of_layouts(content))
    assert bits is not None
    assert bits.is_oversized is oversized
    assert ("oversized" in bits.summary) is oversized
    assert ("oversized" in bits.line) is oversized
    assert ("bits", bits.line) in facts(of_layouts(content))


def test_the_sentence_has_both_figures_and_the_noise() -> None:
    bits = latent_bits(of_layouts(200.0))
    assert bits is not None
    assert bits.summary == (
        "A layout holds 200 bits, and its latent can carry 451 bits at noise of 0.2 standard deviations, "
        "2.3 times as much."
    )
    assert bits.line == "200 bits in a layout, 451 bits at most in its latent at noise of 0.2 standard deviations: 2.3×"


@pytest.mark.parametrize(
    "changes", [{"noise": ()}, {"std": 0.0}, {"noise": (NoiseLevel(level=0.0, mse=0, mse_added=0),)}]
)
def test_without_noise_or_width_nothing_is_said(changes: dict[str, Any]) -> None:
    assert latent_bits(of_layouts(100.0, **changes)) is None


def test_layouts_without_classes_have_no_bits() -> None:
    assert latent_bits(evaluations.evaluation(latent_statistics=evaluations.latent())) is None
    assert latent_bits(evaluations.evaluation(metrics={"val_bits_per_layout": 100.0})) is None


@pytest.mark.parametrize(("fullest", "oversized"), [(0.44, True), (0.46, False)])
def test_what_is_too_small_where_layouts_are_fullest_is_not_called_oversized(fullest: float, oversized: bool) -> None:
    """A tenth of this latent carries 45.1 bits."""
    bits = latent_bits(of_layouts(100.0, fullest))
    assert bits is not None
    assert bits.ratio > 4
    assert bits.ratio_where_fullest == pytest.approx(0.1 * bits.capacity / (fullest * 100))
    assert bits.is_oversized is oversized
    assert ("oversized" in bits.summary) is ("oversized" in bits.line) is oversized


def test_the_sentences_say_how_full_the_fullest_tenth_is() -> None:
    bits, sparse = latent_bits(of_layouts(200.0, 0.6)), latent_bits(of_layouts(50.0, 0.45))
    assert bits is not None
    assert sparse is not None
    assert bits.summary.endswith(
        "2.3 times as much. The fullest tenth of a layout has 60% of its bits, and a tenth of the latent can carry "
        "0.38 times as much."
    )
    assert bits.line.endswith("standard deviations: 2.3× (0.38× in the fullest tenth)")
    assert sparse.summary.endswith("can carry 2 times as much. It is oversized: fewer channels or cells may do.")
    assert sparse.line.endswith("standard deviations: 9× (2× in the fullest tenth), oversized")


def test_a_latent_whose_channels_are_all_constant_can_carry_nothing() -> None:
    channels = tuple(Channel(mean=mean, std=0.0, dead=True) for mean in (1.0, 5.0))
    bits = latent_bits(of_layouts(100.0, 0.5, channels=channels))
    assert bits is not None
    assert bits.line.endswith("standard deviations: 0× (0× in the fullest tenth)")
    assert not bits.is_oversized
