"""Fréchet distance against scipy and by hand; precision and recall of points on a line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch import Tensor

from imginav_probe.distances import RIDGE, Whitening, frechet, precision_recall


def features(seed: int, count: int, *, mean: float = 0.0, dimensions: int = 6) -> Tensor:
    """Return correlated feature vectors, whose covariance depends on the seed."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator)
    return torch.randn(count, dimensions, generator=generator) @ mixing + mean


def by_scipy(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    means = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    return float(means + np.trace(one + other - 2 * sqrtm(one @ other).real))


def line(*points: float) -> Tensor:
    return torch.tensor(points)[:, None]


@pytest.mark.parametrize("counts", [(200, 150), (40, 300)])
@pytest.mark.parametrize("mean", [0.0, 2.5])
def test_the_frechet_distance_is_that_of_scipy(counts: tuple[int, int], mean: float) -> None:
    first, second = features(1, counts[0]), features(2, counts[1], mean=mean)
    expected = by_scipy(first.double().numpy(), second.double().numpy())
    assert expected > 1
    assert frechet(first, second) == pytest.approx(expected, rel=1e-6)


def test_means_that_differ_alone_count_by_the_square_of_their_distance() -> None:
    first = features(3, 100)
    off = torch.tensor([3.0, 0, 0, -4, 0, 0])
    assert frechet(first, first + off) == pytest.approx(25, abs=1e-4)


def test_in_one_dimension_it_is_the_difference_of_the_means_and_of_the_standard_deviations_both_squared() -> None:
    assert frechet(line(-1, 0, 1), line(4, 7, 10)) == pytest.approx(7**2 + (3 - 1) ** 2, abs=1e-6)


def test_the_frechet_distance_of_a_set_to_itself_is_zero() -> None:
    first = features(4, 80)
    assert frechet(first, first) == pytest.approx(0, abs=1e-6)
    assert frechet(first, first.flip(0)) == pytest.approx(0, abs=1e-6)


def test_the_frechet_distance_is_symmetric() -> None:
    first, second = features(5, 90), features(6, 70, mean=1.0)
    assert frechet(first, second) == pytest.approx(frechet(second, first), rel=1e-9)


def test_features_far_from_zero_lose_no_accuracy() -> None:
    first, second = features(7, 90), features(8, 70)
    assert frechet(first + 1024, second + 1024) == pytest.approx(frechet(first, second), rel=1e-4)


def test_precision_counts_samples_up_to_the_third_neighbour_of_a_true_vector() -> None:
    true = line(0, 1, 2, 3, 4)  # whose third neighbours are 3, 2, 2, 2 and 3 away: together from -3 to 7
    assert precision_recall(true, line(-3, -3.5, 6.5, 7.5)).precision == 0.5


def test_recall_is_precision_the_other_way_round() -> None:
    true = line(0, 1, 2, 3, 4)
    samples = line(3, 3.5, 4, 4.5)  # whose third neighbours are 1.5, 1, 1 and 1.5 away: together from 1.5 to 6
    found = precision_recall(true, samples)
    assert (found.precision, found.recall) == pytest.approx((1, 3 / 5))
    swapped = precision_recall(samples, true)
    assert (swapped.precision, swapped.recall) == pytest.approx((3 / 5, 1))


def test_true_vectors_as_samples_have_both() -> None:
    true = features(9, 60)
    found = precision_recall(true, true)
    assert (found.precision, found.recall) == (1, 1)


def test_samples_that_collapse_to_one_true_vector_have_precision_and_no_diversity() -> None:
    true = line(*range(20))
    found = precision_recall(true, line(*[7.0] * 12))
    assert (found.precision, found.recall) == pytest.approx((1, 1 / 20))


def test_samples_far_away_have_neither() -> None:
    true = features(10, 60)
    found = precision_recall(true, true + 1000)
    assert (found.precision, found.recall) == (0, 0)


def test_fewer_vectors_than_neighbours_reach_to_their_last_one() -> None:
    found = precision_recall(line(0, 2), line(-2, -2.5, 4, 5))
    assert found.precision == 0.5
    assert precision_recall(line(1), line(1, 2)).precision == 0.5


def test_whitened_true_features_vary_alike_but_for_directions_that_hardly_vary() -> None:
    generator = torch.Generator().manual_seed(0)
    stds = torch.tensor([10.0, 5.0, 0.01])
    true = torch.randn(4000, 3, generator=generator) * stds + 7
    whitened = Whitening.of(true)(true)
    torch.testing.assert_close(whitened.mean(dim=0), torch.zeros(3).double(), atol=1e-6, rtol=0.0)
    found = whitened.var(dim=0).sort().values
    shares = torch.tensor([(0.01 / 10) ** 2, 0.25, 1.0]).double()
    torch.testing.assert_close(found, shares / (shares + RIDGE), rtol=0.1, atol=1e-4)


def test_whitened_distances_do_not_depend_on_how_features_are_turned_and_scaled() -> None:
    true, samples = features(1, 300), features(2, 200, mean=0.5)
    turned, _ = torch.linalg.qr(features(3, 6))
    expected = frechet(Whitening.of(true)(true), Whitening.of(true)(samples))
    whitening = Whitening.of(3 * true @ turned + 5)
    found = frechet(whitening(3 * true @ turned + 5), whitening(3 * samples @ turned + 5))
    assert found == pytest.approx(expected, rel=1e-4)


def test_features_that_never_vary_are_whitened_to_zero() -> None:
    assert torch.equal(Whitening.of(torch.ones(10, 4))(torch.ones(3, 4)), torch.zeros(3, 4).double())
