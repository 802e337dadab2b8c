"""Validators of manifest fields; each says what was expected and what was found.

A validator also says what it accepts in the words of JSON Schema, so that an editor refuses what a run would refuse.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

from attrs import frozen

from imginav.errors import shown

_DEVICES = r"[cC][oO][nN]|[pP][rR][nN]|[aA][uU][xX]|[nN][uU][lL]|[cC][oO][mM][0-9]|[lL][pP][tT][0-9]"
"""What Windows takes for a device, with any ending; in letters, because JSON Schema has no flags."""

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

FILE_NAME = re.compile(rf"(?!(?:{_DEVICES})(?:\.|$))[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,98}}[A-Za-z0-9_-])?")

ENTRY_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")

# Line ends and what moves the cursor of a terminal, and what turns the order of the letters after it.
_NOT_IN_A_LINE = r"\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069"

MEMORY_UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}

MEMORY = re.compile(rf"([1-9]\d{{0,8}})({'|'.join(MEMORY_UNITS)})")

DURATION = re.compile(r"(?=.)(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")


class Check(ABC):
    """A validator as attrs calls it, and the part of a JSON Schema that says the same."""

    @abstractmethod
    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        """Raise ValueError where the value does not fit; none fits, where the field is optional."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """Return the keywords of JSON Schema (draft-07) for what is accepted."""


@frozen
class at_least(Check):  # noqa: N801  # reads as a sentence where it stands: validator=at_least(1)
    """Accept numbers from `minimum` upwards."""

    minimum: float

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if value is not None and value < self.minimum:
            raise ValueError(f"expected a number of at least {self.minimum}, found {value!r}")

    def schema(self) -> dict[str, Any]:
        return {"minimum": self.minimum}


@frozen
class above(Check):  # noqa: N801
    """Accept numbers greater than `minimum`."""

    minimum: float

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if value is not None and value <= self.minimum:
            raise ValueError(f"expected a number above {self.minimum}, found {value!r}")

    def schema(self) -> dict[str, Any]:
        return {"exclusiveMinimum": self.minimum}


@frozen
class between(Check):  # noqa: N801
    """Accept numbers strictly between `low` and `high`."""

    low: float
    high: float

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if value is not None and not self.low < value < self.high:
            raise ValueError(f"expected a number between {self.low} and {self.high}, both excluded, found {value!r}")

    def schema(self) -> dict[str, Any]:
        return {"exclusiveMinimum": self.low, "exclusiveMaximum": self.high}


@frozen
class from_to(Check):  # noqa: N801
    """Accept numbers from `low` to `high`, both included."""

    low: float
    high: float

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if value is not None and not self.low <= value <= self.high:
            raise ValueError(f"expected a number from {self.low} to {self.high}, found {value!r}")

    def schema(self) -> dict[str, Any]:
        return {"minimum": self.low, "maximum": self.high}


class _FileName(Check):
    """Accept a name that is safe as a file's or folder's name on every system, and cannot leave its folder."""

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if FILE_NAME.fullmatch(value):
            return
        if PLAIN_NAME.fullmatch(value):
            raise ValueError(
                f"expected a name that no system keeps for itself (CON, NUL, a dot at the end), found {shown(value)}"
            )
        raise ValueError(
            "expected a plain name of letters, digits, '.', '_' and '-' that starts with a letter or digit, "
            f"found {shown(value)}"
        )

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^{FILE_NAME.pattern}$"}


file_name = _FileName()


class _EntryNames(Check):
    """Accept tables whose keys can stand in the columns of a CSV file, in dotted keys and in the names of weights."""

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if wrong := [name for name in value if not ENTRY_NAME.fullmatch(name)]:
            raise ValueError(f"expected names of letters, digits, '_' and '-', found {shown(wrong[0])}")

    def schema(self) -> dict[str, Any]:
        return {"propertyNames": {"pattern": f"^{ENTRY_NAME.pattern}$"}}


entry_names = _EntryNames()


class _OneLine(Check):
    """Accept text that a terminal, a page and a picture can show in one line."""

    pattern = f"[^{_NOT_IN_A_LINE}]*"

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if value is not None and not re.fullmatch(self.pattern, value):
            raise ValueError(f"expected text in one line, without control characters, found {shown(value)}")

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^{self.pattern}$"}


one_line = _OneLine()


class _Duration(Check):
    """Accept a time such as 11h30m: days, hours, minutes, seconds, each with its letter, and more than none."""

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if value is not None and (not DURATION.fullmatch(value) or seconds_of(value) == 0):
            raise ValueError(f"expected a time such as '11h30m', '90m' or '1d2h', found {value!r}")

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^{DURATION.pattern}$"}


def seconds_of(duration: str) -> int:
    """Return the seconds of a time such as 11h30m."""
    match = DURATION.fullmatch(duration)
    parts = match.groups() if match else ()
    return sum(int(part or 0) * unit for part, unit in zip(parts, (86_400, 3_600, 60, 1), strict=False))


duration = _Duration()


class _Memory(Check):
    """Accept a size of memory such as 32GB."""

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if value is not None and not MEMORY.fullmatch(value):
            raise ValueError(f"expected a size of memory with its unit, such as '32GB' or '500MB', found {value!r}")

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^{MEMORY.pattern}$"}


def bytes_of(memory: str) -> int:
    """Return the bytes of a size such as 32GB; units are powers of 1024, as schedulers count."""
    match = MEMORY.fullmatch(memory)
    return int(match[1]) * MEMORY_UNITS[match[2]] if match else 0


memory_size = _Memory()
