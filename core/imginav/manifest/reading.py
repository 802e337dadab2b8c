"""TOML files as they come, read within bounds: nothing in one can hang the program or fill the memory.

The bounds are far above what any phase needs, and they are looked at before the work that they bound.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli

from imginav.errors import UserError, shown

MOST_BYTES = 2**20
"""A phase has about 2,000 bytes, and the winner of a sweep of a thousand experiments about 300,000."""

MOST_LEVELS = 32
"""Tables and lists in each other; the deepest value of a phase lies in four. What walks them may then be recursive."""

MOST_VALUES = 100_000
"""Of a file, counting what is in lists; and of all experiments of a phase together."""

MOST_CHARACTERS = 10_000
"""Of one text: more than any path or reason has."""

MOST_KEY_CHARACTERS = 200

WHOLE_NUMBERS = range(-(2**63), 2**63)
"""What TOML's whole numbers are; Python's have no end, and cannot all be written down again."""

PHASE_WANTED = "name a phase's manifest, such as phases/1_5.toml"
"""The remedy for what is none."""


class NotTomlError(UserError):
    """A text that is no TOML at all."""


# The parser's time grows with the square of a key's parts, so they are counted before. A part is bare or in quotes,
# and none begins behind a backslash: each character is looked at a few times at most.
_LONG_KEY = re.compile(
    r"""(?<![A-Za-z0-9_\\-])(?:(?>[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*\.[ \t]*)"""
    f"{{{MOST_LEVELS}}}"
)


def read_text(path: Path, remedy: str = PHASE_WANTED) -> str:
    """Return what stands in a file of UTF-8 text; raises UserError where it is none, or is too large to be meant."""
    try:
        return read_bytes(path, remedy).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def read_bytes(path: Path, remedy: str) -> bytes:
    """Return the content of a small file; raises UserError where there is none, or it is too large to be meant."""
    try:
        # A pipe or a device might never end, or never begin.
        if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
            raise UserError(f"{path}: is no file but a device, a pipe or a socket; {remedy}")
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{path}: is larger than {MOST_BYTES:,} bytes, which no manifest is; {remedy}")
        return content
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; {remedy}") from None
    except ValueError:
        raise UserError(f"{str(path)!r} can be no path; {remedy}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file; raises UserError where there is none, it is not TOML, or out of bounds."""
    return parse_toml(read_text(path), str(path))


def parse_toml(text: str, origin: str) -> dict[str, Any]:
    """Return the tables of a TOML text; raises UserError, which begins with its origin, where they are none."""
    if _LONG_KEY.search(text):
        raise UserError(f"{origin}: is nested too deeply for a manifest: a key of more than {MOST_LEVELS} parts")
    try:
        tables = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise NotTomlError(f"{origin}: is not valid TOML: {error}") from None
    except RecursionError:
        raise UserError(f"{origin}: is nested too deeply for a manifest") from None
    except ValueError:  # Python's own, before the parser could see how long the number is
        raise UserError(f"{origin}: holds a number of thousands of digits, which is none of a manifest") from None
    for number, (keys, value) in enumerate(_everything(tables), start=1):
        if fault := _excess(keys, value):
            raise UserError(f"{origin}: {shown('.'.join(keys))}: {fault}")
        if number > MOST_VALUES:
            raise UserError(f"{origin}: holds more than {MOST_VALUES:,} values, which no manifest does")
    return tables


def _excess(keys: tuple[str, ...], value: Any) -> str:
    """Return what is beyond all bounds in a value or in the key that leads to it, or nothing."""
    if len(keys) > MOST_LEVELS:
        return f"is nested too deeply for a manifest: in more than {MOST_LEVELS} tables and lists"
    if keys and len(keys[-1]) > MOST_KEY_CHARACTERS:
        return f"a key of {len(keys[-1]):,} characters; {MOST_KEY_CHARACTERS} are the most"
    if isinstance(value, int) and value not in WHOLE_NUMBERS:
        return "a whole number of more than 64 bits, which TOML does not have"
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        return f"a text of {len(value):,} characters; {MOST_CHARACTERS:,} are the most"
    return ""


def _everything(tables: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Return all values, tables and lists with the keys that lead to them, without recursion."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), tables)]
    while waiting:
        keys, value = waiting.pop()
        yield keys, value
        if isinstance(value, dict):
            waiting += [((*keys, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            waiting += [((*keys, ""), item) for item in value]
