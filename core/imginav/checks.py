"""Validators of manifest fields; each says what was expected and what was found."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Validator = Callable[[Any, Any, Any], None]

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def at_least(minimum: float) -> Validator:
    """Accept numbers from `minimum` upwards, and none where the field is optional."""

    def check(_: Any, __: Any, value: float | None) -> None:
        if value is not None and value < minimum:
            raise ValueError(f"expected a number of at least {minimum}, found {value!r}")

    return check


def above(minimum: float) -> Validator:
    """Accept numbers greater than `minimum`, and none where the field is optional."""

    def check(_: Any, __: Any, value: float | None) -> None:
        if value is not None and value <= minimum:
            raise ValueError(f"expected a number above {minimum}, found {value!r}")

    return check


def between(low: float, high: float) -> Validator:
    """Accept numbers strictly between `low` and `high`."""

    def check(_: Any, __: Any, value: float) -> None:
        if not low < value < high:
            raise ValueError(f"expected a number between {low} and {high}, both excluded, found {value!r}")

    return check


def from_to(low: float, high: float) -> Validator:
    """Accept numbers from `low` to `high`, both included, and none where the field is optional."""

    def check(_: Any, __: Any, value: float | None) -> None:
        if value is not None and not low <= value <= high:
            raise ValueError(f"expected a number from {low} to {high}, found {value!r}")

    return check


def file_name(_: Any, __: Any, value: str) -> None:
    """Accept a name that is safe as a file's or folder's name on every system, and cannot leave its folder."""
    if not FILE_NAME.fullmatch(value):
        raise ValueError(
            "expected a plain name of letters, digits, '.', '_' and '-' that starts with a letter or digit, "
            f"found {value!r}"
        )
