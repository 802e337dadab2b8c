"""How values are written in pages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import tomli

from imginav_reports.html import as_toml, breakable, figure, fixed, moment


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (0, "0"),
        (0.07782, "0.077820"),
        (17.1123, "17.112"),
        (12345.678, "12346"),
        (1234567.8, "1,234,568"),
        (0.0000123, "1.2300e-05"),
        (-0.5, "-0.50000"),
    ],
)
def test_figures_have_the_same_number_of_digits(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_figures_of_a_column_have_the_same_number_of_decimals() -> None:
    assert [fixed(value, 2) for value in (1.0, 0.005, -12.3, math.nan, math.inf)] == [
        "1.00",
        "0.01",
        "-12.30",
        "–",
        "∞",
    ]


@pytest.mark.parametrize(
    "value", [1, 0.5, True, 'a "b" \\ $c$', [1, 2], {"weight": 1e-4, "layers": ["a"]}, "line\nbreak", [], {}]
)
def test_values_are_as_a_manifest_has_them(value: Any) -> None:
    assert tomli.loads(f"value = {as_toml(value)}")["value"] == value


def test_a_value_that_toml_cannot_say_is_none() -> None:
    assert as_toml(None) == "none"


def test_a_name_may_be_broken_and_is_still_text() -> None:
    assert breakable("latent_<b>_&") == "latent_<wbr>&lt;b&gt;_<wbr>&amp;"


def test_a_moment_is_said_to_the_minute_and_other_text_is_left() -> None:
    assert moment("2026-11-25T22:37:54+00:00") == "2026-11-25 22:37 UTC"
    assert moment("2026-11-25T22:37:54") == "2026-11-25 22:37"
    assert moment("some day") == "some day"
    assert moment("") == ""
