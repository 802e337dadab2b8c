"""Puts the stand-in for the original project's code on the path of a test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).with_name("original")

OWN = ("models", "imginav_original")
"""What a test imports of that code and of an export, and other tests must not see."""


def use_original_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test import the stand-in as `models`, as it is before anything has changed it."""
    monkeypatch.syspath_prepend(str(ROOT))
    forget_original_code()


def forget_original_code() -> None:
    """Make Python import the stand-in, and the adapter of an export, anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
        del sys.modules[name]
