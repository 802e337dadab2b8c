"""How a table names what experiments differ in."""

from __future__ import annotations

import pytest

from imginav_reports.varied_values import short_names, shown_value


def test_keys_are_shortened_as_far_as_they_stay_apart() -> None:
    keys = ["encoder.latent_channels", "losses.segmentation", "decoder.heads.segmentation", "a.b"]
    assert short_names(keys) == ["latent_channels", "losses.segmentation", "heads.segmentation", "b"]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"losses.kld": {"type": "kld", "weight": 0.5}}, "weight 0.5"),
        ({"losses.kld": {"type": "kld"}}, "on"),
        ({"losses.kld": False}, "off"),
        ({"losses": False}, "off"),
        ({}, "none"),
        ({"losses.kld": 3}, "3"),
        ({"losses.kld": True}, "true"),
    ],
)
def test_a_varied_value_is_shown_for_people(changes: dict[str, object], shown: str) -> None:
    assert shown_value(changes, "losses.kld") == shown


def test_false_is_a_value_where_it_switches_nothing_off() -> None:
    assert shown_value({"encoder.variational": False}, "encoder.variational") == "false"
