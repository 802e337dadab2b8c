"""The rules by which an experiment wins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from imginav import Candidate, Selector, UserError
from imginav_selectors import Best, Gated, Pareto, SmallestGoodEnough


def candidate(
    name: str, *values: float, dims: int = 4096, parameters: int = 1000, ms: float | None = None
) -> Candidate:
    return Candidate(name=name, values=values, latent_dimensions=dims, parameters=parameters, latency_ms=ms)


# The original system's figures: 32×32 latents of 4, 8, 16 and 32 channels.
CHANNELS = [
    candidate("ch4", 0.002618, dims=4_096),
    candidate("ch8", 0.001591, dims=8_192),
    candidate("ch16", 0.001101, dims=16_384),
    candidate("ch32", 0.000950, dims=32_768),
]


def test_the_best_is_the_least_or_the_most_of_its_metric() -> None:
    candidates = [candidate("A", 20.0), candidate("B", 30.0), candidate("C", 25.0)]
    assert Best(metric="val_psnr_db", mode="max").select(candidates).winner == "B"
    choice = Best().select(candidates)
    assert choice.winner == "A"
    assert choice.because == "its val_mse of 20 is the best"


def test_a_difference_within_the_spread_of_the_seeds_is_a_tie_and_goes_to_the_smaller_one() -> None:
    big, small = candidate("big", 0.010, 0.012, dims=16_384), candidate("small", 0.0125, 0.0127, dims=4_096)
    choice = Best().select([big, small])
    assert choice.winner == "small"
    assert choice.because == (
        "its val_mse of 0.0126 is level with big's 0.0110, whose seeds lie 0.002 apart, and it is the smallest and "
        "fastest of 2 level ones"
    )
    # The same means, but the seeds agree: no tie.
    assert Best().select([candidate("big", 0.011, 0.0111, dims=16_384), small]).winner == "big"


def test_ties_go_to_fewer_dimensions_then_fewer_parameters_then_less_time() -> None:
    assert Best().select([candidate("A", 1.0, dims=2), candidate("B", 1.0, dims=1)]).winner == "B"
    assert Best().select([candidate("A", 1.0, parameters=2), candidate("B", 1.0, parameters=1)]).winner == "B"
    assert Best().select([candidate("A", 1.0, ms=2.0), candidate("B", 1.0, ms=1.0)]).winner == "B"


@pytest.mark.parametrize(
    ("improvement", "winner"), [(0.01, "ch32"), (0.1, "ch32"), (0.14, "ch16"), (0.45, "ch8"), (0.65, "ch4")]
)
def test_more_dimensions_have_to_buy_the_stated_improvement(improvement: float, winner: str) -> None:
    assert SmallestGoodEnough(improvement=improvement).select(CHANNELS).winner == winner


def test_the_reason_names_what_the_larger_one_would_buy() -> None:
    assert SmallestGoodEnough(improvement=0.14).select(CHANNELS).because == (
        "it has 16,384 latent dimensions, and ch32's 32,768 buy only 13.7% in val_mse (0.000950 against 0.00110)"
    )
    assert SmallestGoodEnough(improvement=0.1).rule == "smallest_good_enough 10 %"


def test_of_one_latent_the_reason_names_the_parameters() -> None:
    candidates = [candidate("narrow", 0.0102, parameters=3_000), candidate("wide", 0.0100, parameters=12_000)]
    choice = SmallestGoodEnough().select(candidates)
    assert choice.winner == "narrow"
    assert choice.because == (
        "it has 3,000 parameters, and wide's 12,000 buy only 2.0% in val_mse (0.0100 against 0.0102)"
    )


def test_improvement_counts_upwards_where_more_is_better() -> None:
    candidates = [candidate("small", 0.90, dims=1), candidate("large", 0.95, dims=2)]
    assert SmallestGoodEnough(metric="iou", mode="max", improvement=0.1).select(candidates).winner == "small"
    assert SmallestGoodEnough(metric="iou", mode="max", improvement=0.05).select(candidates).winner == "large"


def test_a_perfect_arm_is_compared_without_a_division_by_zero() -> None:
    assert SmallestGoodEnough().select([candidate("A", 0.0, dims=2), candidate("B", 0.0, dims=1)]).winner == "B"
    assert SmallestGoodEnough().select([candidate("A", 0.0, dims=2), candidate("B", 0.1, dims=1)]).winner == "A"
    assert Pareto().select([candidate("A", 0.0, dims=2), candidate("B", 0.1, dims=1)]).winner == "A"


def test_pareto_reports_the_front_and_picks_by_the_weights() -> None:
    candidates = [*CHANNELS, candidate("wide", 0.001700, dims=8_192)]
    even = Pareto(quality=1.0, dimensions=1.0).select(candidates)
    assert even.front == ("ch4", "ch8", "ch16", "ch32")  # the wide one is worse at the same size
    assert even.winner == "ch4"
    assert Pareto(quality=1.0, dimensions=0.6).select(candidates).winner == "ch8"
    assert Pareto(quality=1.0, dimensions=0.5).select(candidates).winner == "ch16"
    assert Pareto(quality=1.0, dimensions=0.0).select(candidates).winner == "ch32"
    assert "least score of the front (ch4, ch8, ch16, ch32)" in even.because


def test_pareto_counts_latency_only_where_all_have_it() -> None:
    slow, fast = candidate("slow", 0.010, ms=100.0), candidate("fast", 0.011, ms=10.0)
    rule = Pareto(latency=1.0)
    assert rule.select([slow, fast]).winner == "fast"
    assert Pareto().select([slow, fast]).winner == "slow"
    partly = rule.select([slow, evolve(fast, latency_ms=None)])
    assert partly.winner == "slow"
    assert "latency was not measured for all, and does not count" in partly.because


def test_pareto_refuses_a_metric_without_a_logarithm() -> None:
    with pytest.raises(UserError, match=r"pareto takes the logarithm of x, which is -1 for B; choose a metric above 0"):
        Pareto(metric="x").select([candidate("A", 1.0), candidate("B", -1.0)])


RULES = [
    Best(),
    Best(mode="max"),
    SmallestGoodEnough(improvement=0.1),
    SmallestGoodEnough(improvement=0.3, mode="max"),
    Pareto(),
    Pareto(quality=0.3, dimensions=1.0, latency=0.5),
    Pareto(mode="max"),
    Gated(),
    Gated(factor=3.0, gate_mode="max"),
]

figures = st.floats(min_value=1e-6, max_value=10.0)


def gated(name: str, mse: float, *fdd: float, dims: int = 4096) -> Candidate:
    return evolve(candidate(name, *fdd, dims=dims), figures={"val_mse": mse, "probe_fdd": sum(fdd) / len(fdd)})


PROBED = [gated("ch4", 0.0131, 3.2, 3.4), gated("ch16", 0.0065, 1.5, 1.7), gated("ch64", 0.0020, 8.1, 8.5)]


@pytest.mark.parametrize(
    ("rule", "winner", "kept"),
    [
        (Gated(factor=1.5), "ch64", "ch16, ch4 did not pass val_mse ≤ 0.003"),
        (Gated(factor=4.0), "ch16", "ch4 did not pass val_mse ≤ 0.008"),
        (Gated(factor=10.0), "ch16", "all pass val_mse ≤ 0.02"),
        (Gated(limit=0.0131), "ch16", "all pass val_mse ≤ 0.0131"),
        (Gated(limit=0.005), "ch64", "ch16, ch4 did not pass val_mse ≤ 0.005"),
    ],
)
def test_what_is_reconstructed_decides_who_may_win_and_the_probe_who_does(rule: Gated, winner: str, kept: str) -> None:
    choice = rule.select(PROBED)
    assert choice.winner == winner
    assert choice.because.endswith(f"is the best; {kept}")


def test_the_gate_may_be_a_metric_of_which_more_is_better() -> None:
    candidates = [evolve(c, figures={"iou": iou}) for c, iou in zip(PROBED, (0.5, 0.8, 0.9), strict=True)]
    assert Gated(gate="iou", gate_mode="max", factor=1.2).select(candidates).winner == "ch16"
    strict = Gated(gate="iou", gate_mode="max", limit=0.85).select(candidates)
    assert strict.winner == "ch64"
    assert strict.because.endswith("; ch16, ch4 did not pass iou ≥ 0.85")


def test_level_arms_behind_the_gate_go_to_the_smaller_latent() -> None:
    large, small = gated("large", 0.01, 2.0, 2.4, dims=16_384), gated("small", 0.011, 2.3, 2.5, dims=4_096)
    assert Gated().select([large, small]).winner == "small"
    assert Gated().select([gated("large", 0.01, 2.2, 2.2, dims=16_384), small]).winner == "large"


def test_a_limit_that_nobody_reaches_is_refused_with_the_best_value() -> None:
    with pytest.raises(UserError, match=r"limit = 0\.001: no experiment passes, the best val_mse is 0\.002; choose"):
        Gated(limit=0.001).select(PROBED)


def test_a_gate_without_a_ratio_lets_the_best_pass() -> None:
    candidates = [evolve(c, figures={"x": value}) for c, value in zip(PROBED, (-2.0, -1.0, 0.0), strict=True)]
    assert Gated(gate="x").select(candidates).winner == "ch4"
    assert Gated(gate="x", gate_mode="max").select(candidates).winner == "ch64"


def test_a_gate_says_what_it_asks_for_in_its_rule() -> None:
    assert Gated().rule == "gated probe_fdd (min), val_mse × 1.5"
    assert Gated(gate="iou", gate_mode="max", limit=0.9).rule == "gated probe_fdd (min), iou ≥ 0.9"
    assert Gated().metrics == {"metric": "probe_fdd", "gate": "val_mse"}


@st.composite
def tables(draw: st.DrawFn) -> list[Candidate]:
    """Up to six experiments of one to three seeds each; coarse sizes, so that many are equal."""
    seeds = draw(st.integers(1, 3))
    timed = draw(st.booleans())
    return [
        Candidate(
            name=name,
            values=tuple(draw(st.lists(figures, min_size=seeds, max_size=seeds))),
            latent_dimensions=draw(st.sampled_from([512, 1024, 2048])),
            parameters=draw(st.sampled_from([1000, 2000])),
            latency_ms=draw(st.sampled_from([5.0, 10.0])) if timed else None,
            figures={"val_mse": draw(figures)},
        )
        for name in draw(st.sampled_from(["A", "AB", "ABC", "ABCDEF"]))
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.rule} {rule.mode}")
@given(candidates=tables(), data=st.data())
def test_the_order_of_the_experiments_means_nothing(
    rule: Selector, candidates: list[Candidate], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(candidates))
    assert rule.select(candidates) == rule.select(shuffled)


def worse(than: Candidate, mode: str, share: float, more: Sequence[int]) -> Candidate:
    """Return an experiment that is worse than another with every seed, and no smaller or faster."""
    factor = 1 + share if mode == "min" else 1 / (1 + share)
    return evolve(
        than,
        name="worse",
        values=tuple(value * factor for value in than.values),
        latent_dimensions=than.latent_dimensions * more[0],
        parameters=than.parameters * more[1],
        latency_ms=than.latency_ms and than.latency_ms * more[2],
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.rule} {rule.mode}")
@given(candidates=tables(), data=st.data())
def test_a_strictly_worse_experiment_changes_nothing(
    rule: Selector, candidates: list[Candidate], data: st.DataObject
) -> None:
    than = data.draw(st.sampled_from(candidates))
    more = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)))
    extra = worse(than, rule.mode, data.draw(st.floats(0.01, 2.0)), more)
    assert rule.select([*candidates, extra]).winner == rule.select(candidates).winner


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.rule} {rule.mode}")
@given(value=figures)
def test_a_single_experiment_wins(rule: Selector, value: float) -> None:
    only = evolve(candidate("only", value), figures={"val_mse": value})
    assert rule.select([only]).winner == "only"


@given(candidates=tables())
def test_nobody_beats_the_best_but_within_its_spread(candidates: list[Candidate]) -> None:
    winner = next(a for a in candidates if a.name == Best().select(candidates).winner)
    best = min(candidates, key=lambda a: a.mean)
    assert winner.mean - best.mean <= max(a.spread for a in candidates if math.isclose(a.mean, best.mean))
