"""What the LSF on this machine is: IBM's or OpenLava, and the unit of its limits. Its programs are asked once."""

from __future__ import annotations

import functools
import re
import shutil
from typing import Literal

from imginav import UserError
from imginav.plugin import ask

Variant = Literal["lsf10", "openlava"]


def variant_here() -> Variant | None:
    """Return which of LSF's family is installed here; None if there is none, or `bsub -V` names none.

    A Platform LSF before 10.1 counts as `openlava`: it lacks `bsub -gpu` and `bjobs -json` as well.
    """
    answer = _answer_of("bsub", "-V") or ""
    if re.search("openlava", answer, re.IGNORECASE):
        return "openlava"
    version = re.search(r"\bLSF\b[^\n]*?(\d+)\.\d", answer)
    return None if version is None else "lsf10" if int(version[1]) >= 10 else "openlava"


def unit_for_limits() -> str | None:
    """Return the site's LSF_UNIT_FOR_LIMITS, such as MB; "" if it is not set, None if `badmin` cannot be asked."""
    answer = _answer_of("badmin", "showconf", "mbd")
    if answer is None or "=" not in answer:
        return None
    unit = re.search(r"\bLSF_UNIT_FOR_LIMITS\s*=\s*([KMGTPE])B?\b", answer, re.IGNORECASE)
    return f"{unit[1].upper()}B" if unit else ""


def _answer_of(*command: str) -> str | None:
    program = shutil.which(command[0])
    return _printed(program, *command[1:]) if program else None


@functools.cache
def _printed(*command: str) -> str | None:
    try:
        done = ask(command)
    except UserError:
        return None
    return done.stdout + done.stderr  # LSF prints its version as an error
