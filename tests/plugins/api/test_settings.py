"""Settings of Python as those of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imginav import UserError
from imginav.manifest.config_layers import setting
from imginav_api.settings import as_settings

VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab c.", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_a_value_is_read_as_it_was_given(value: Any) -> None:
    (text,) = as_settings({"a.b": value})
    assert setting(text).tables == {"a": {"b": value}}


def test_paths_and_numbers_of_numpy_are_taken_and_a_table_can_replace_another() -> None:
    values = {"data.manifest": Path("a/b.csv"), "train.epochs": np.int64(3), "sizes": (1, 2.5), "losses:": {"mse": {}}}
    assert as_settings(values) == ('data.manifest="a/b.csv"', "train.epochs=3", "sizes=[1, 2.5]", "losses:={mse = {}}")
    assert as_settings(None) == ()


@pytest.mark.parametrize("value", [None, object(), {1, 2}, [None], {"a": None}, print])
def test_what_toml_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"settings\['train.epochs'\] = .*: TOML has no such value; take a number"):
        as_settings({"train.epochs": value})


@pytest.mark.parametrize("key", [3, "", None])
def test_a_key_is_text(key: Any) -> None:
    with pytest.raises(UserError, match=r"is not a key; write a dotted one as text, such as 'train\.epochs'"):
        as_settings({key: 3})
