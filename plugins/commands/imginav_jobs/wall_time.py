"""Times of jobs: as imginav writes them everywhere (1d12h), and as a scheduler writes them (36:00)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from imginav.plugin.validators import DURATION, Check, duration, seconds_of

SECONDS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}

MOST = {"hours": 23, "minutes": 59, "seconds": 59}
"""The largest value of each unit behind another one."""

NOTATION = re.compile(r"\d{1,6}(?:[:-]\d{1,6}){1,3}")
"""What the notations of all schedulers have in common; a bare number has no unit that one could see."""


class JobTime(Check):
    """Accept a time such as 24h or 1d12h, or one in a scheduler's own notation, such as 12:00."""

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if value is not None and not NOTATION.fullmatch(value):
            duration(instance, attribute, value)

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^(?:{DURATION.pattern}|{NOTATION.pattern})$"}


def seconds_of_job_time(key: str, text: str, notations: Sequence[str]) -> int:
    """Return the seconds of a job's time, which may be in one of a scheduler's notations.

    A notation names its units from left to right, such as `hours:minutes`. Raises ValueError, with the `key`, if the
    text fits none of them.
    """
    if not NOTATION.fullmatch(text):
        return seconds_of(text)
    if notation := notation_of(text, notations):
        units = re.findall(r"\w+", notation)
        return sum(int(value) * SECONDS[unit] for value, unit in zip(re.findall(r"\d+", text), units, strict=True))
    own = f"or as this scheduler writes it ({', '.join(notations)})" if notations else "which says its units"
    raise ValueError(f"expected {key} such as '24h' or '1d12h', {own}, found {text!r}")


def notation_of(text: str, notations: Sequence[str]) -> str | None:
    """Return the notation that a time is written in; None if it fits none of them."""
    return next((notation for notation in notations if _fits(text, notation)), None)


def _fits(text: str, notation: str) -> bool:
    units, values = re.findall(r"\w+", notation), list(map(int, re.findall(r"\d+", text)))
    if re.sub(r"\d+", "", text) != re.sub(r"\w+", "", notation) or not any(values):
        return False
    return all(value <= MOST[unit] for value, unit in zip(values[1:], units[1:], strict=True))
