"""Whether a process of this machine is still alive, and still the same one."""

from __future__ import annotations

import os
from pathlib import Path


def living_process(number: int) -> str | None:
    """Return a living process by its number and when it started, or none where there is no such process."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # another user's, but alive
        pass
    try:
        # The name in parentheses may hold spaces; the state comes after it, and the start time is the 20th field.
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return str(number)
    return None if fields[0] in "ZX" else f"{number} {fields[19]}"
