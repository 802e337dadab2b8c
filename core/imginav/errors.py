"""The one error that a user can cause."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


class UserError(Exception):
    """Something that the user can mend: its text names the setting, the value and the remedy.

    The command line prints the text alone and exits with status 2. Every other exception is a fault of the
    program and keeps its traceback. What stands in a manifest or a file's name may stand in the text; nothing of it
    moves the cursor of a terminal.
    """

    def __init__(self, text: str, faults: Sequence[str] = ()) -> None:
        text = _in_lines(text)
        super().__init__(text)
        self.faults = tuple(map(_in_lines, faults)) or (text,)  # each by itself, where the text tells of several


def in_one_line(text: str) -> str:
    """Return text that can stand in a line, with what cannot be printed as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _in_lines(text: str) -> str:
    return "\n".join(map(in_one_line, text.split("\n")))


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names, the one most like `name` first, the others in alphabetical order."""
    ordered = sorted(known)
    alike = difflib.get_close_matches(name, ordered, n=3, cutoff=0.5)
    return alike + [other for other in ordered if other not in alike]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` where a known name is close to `name`, and nothing otherwise."""
    alike = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {alike[0]!r}?" if alike else ""


def shown(value: object) -> str:
    """Return a value as it is shown in a sentence: what is long is cut off, and nothing in it can break the line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def refuse_old_name(owner: str, name: str, renamed: Mapping[str, str]) -> None:
    """Raise AttributeError for a name of an earlier version, with the name that it has now."""
    if name in renamed:
        raise AttributeError(f"{owner}.{name} is called {owner}.{renamed[name]} now; change the plugin")
