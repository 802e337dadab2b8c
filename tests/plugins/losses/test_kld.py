"""The divergence of a latent from N(0, 1)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from imginav_losses import KLDivergence


def kld(mean: torch.Tensor, log_variance: torch.Tensor) -> float:
    return KLDivergence()({"mean": mean, "log_variance": log_variance}, {}).item()


def test_it_is_what_the_formula_says() -> None:
    mean, log_variance = torch.tensor([1.0, -2.0]), torch.tensor([0.0, math.log(4.0)])
    expected = (-0.5 * (1 + 0 - 1 - 1) - 0.5 * (1 + math.log(4) - 4 - 4)) / 2
    assert kld(mean, log_variance) == pytest.approx(expected)


def test_a_standard_normal_latent_costs_nothing() -> None:
    assert kld(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)) == 0


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_it_is_torchs_divergence_of_two_normal_distributions(mean: float, log_variance: float) -> None:
    means, log_variances = torch.tensor([mean, 0.5]).double(), torch.tensor([log_variance, -0.5]).double()
    posterior = Normal(means, torch.exp(0.5 * log_variances))
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).mean().item()
    assert kld(means, log_variances) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_its_size_does_not_depend_on_that_of_the_latent() -> None:
    mean, log_variance = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    once = kld(mean, log_variance)
    assert once > 0.1
    for dimension in range(4):
        twice = kld(torch.cat([mean, mean], dimension), torch.cat([log_variance, log_variance], dimension))
        assert twice == pytest.approx(once, rel=1e-5)


def test_it_reads_the_encoders_distribution_and_no_target() -> None:
    loss = KLDivergence(weight=1e-4)
    assert (loss.required_outputs(), loss.required_targets()) == (("mean", "log_variance"), ())


def test_what_it_reads_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'output'"):
        KLDivergence(output="rgb")  # type: ignore[call-arg]  # what is tried
