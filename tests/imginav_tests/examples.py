"""How many examples hypothesis tries: `pytest` a few, `pytest --hypothesis-profile=thorough` all."""

from __future__ import annotations

from hypothesis import settings

QUICK = 50
"""Examples of a test in the default profile."""

THOROUGH = 100
"""Examples of a test that states no number of its own, in the profile `thorough`."""


def register_profiles() -> None:
    """Register both profiles, and load the quick one."""
    # A machine that does other things at the same time is no fault.
    settings.register_profile("quick", deadline=None, max_examples=QUICK)
    settings.register_profile("thorough", deadline=None, max_examples=THOROUGH)
    settings.load_profile("quick")


def examples(thorough: int, quick: int = QUICK) -> int:
    """Return how many examples a test tries in the present profile, of which `thorough` states the one number."""
    return thorough if settings().max_examples > QUICK else min(quick, thorough)
