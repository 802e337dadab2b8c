"""The table of the ranking bench: how each value ranks autoencoders beside the long probe."""

from __future__ import annotations

import re

import numpy as np
import probe_ranking
import pytest


def test_values_are_ranked_beside_both_judges(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        f"arm {place}": {
            "val MSE": 0.1 * place,
            "short probe_fdd": place**2,
            "long probe_fdd": 2.0 + place,
            "long probe_pieces": 1.0 - 0.1 * place,
        }
        for place in range(5)
    }
    rows["without a long probe"] = {"val MSE": 0.7, "short probe_fdd": 0.0}
    probe_ranking.show(rows)
    _, by_fdd, by_pieces = re.split("Spearman's correlation with ", capsys.readouterr().out)
    assert by_fdd.startswith("long probe_fdd")
    assert re.findall(r"^ (val MSE|short probe_fdd|long \S+) +(\S+) +\S+ to \S+ +(\d+)", by_fdd, re.MULTILINE) == [
        ("val MSE", "1.00", "5"),
        ("short probe_fdd", "1.00", "5"),
    ]
    assert by_pieces.startswith("long probe_pieces")
    assert re.findall(r"^ short probe_fdd +(\S+)", by_pieces, re.MULTILINE) == ["-1.00"]


def test_fewer_than_four_autoencoders_are_not_ranked(capsys: pytest.CaptureFixture[str]) -> None:
    probe_ranking.show({f"arm {n}": {"val MSE": n, "long probe_fdd": n, "long probe_pieces": n} for n in range(3)})
    assert len(re.findall(r"^ val MSE", capsys.readouterr().out, re.MULTILINE)) == 0


def test_the_interval_of_a_weak_order_is_wide() -> None:
    rng = np.random.default_rng(1)
    one = np.arange(10.0)
    correlation, low, high = probe_ranking.rank_correlation(one, one + rng.normal(0, 8, 10))
    assert -1 <= low < correlation < high <= 1
    assert high - low > 0.4
    assert probe_ranking.rank_correlation(one, one) == pytest.approx((1, 1, 1))
