"""How much a command prints: `--debug` and `--quiet`, which its processes learn from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable

from imginav.errors import UserError

DEBUG = "IMGINAV_DEBUG"
"""The environment variable by which `--debug` reaches the processes of a command."""

QUIET = "IMGINAV_QUIET"
"""The environment variable by which `--quiet` reaches the processes of a command."""


def shows_traceback(error: BaseException) -> bool:
    """Whether the traceback of an error is printed: of a fault of the program always, of any other with `--debug`."""
    return bool(os.environ.get(DEBUG)) or not isinstance(error, UserError)


def is_quiet() -> bool:
    """Whether only warnings, errors and results are printed, as with `--quiet`: no progress and no log lines."""
    return bool(os.environ.get(QUIET))


def unless_quiet(log: Callable[[str], None]) -> Callable[[str], None]:
    """Return what takes log lines: `log`, or nothing with `--quiet`."""
    return _drop if is_quiet() else log


def _drop(_: str) -> None:
    pass
