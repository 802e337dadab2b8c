"""Numbers, times and sizes for people."""

from __future__ import annotations

from pathlib import Path

MOST_DIGITS = 17
"""Significant digits that tell any two floats apart."""


def apart(first: float, second: float, digits: int = 3) -> tuple[str, str]:
    """Return two figures with as many significant digits as tell them apart, three at least."""
    while True:
        texts = f"{first:#.{digits}g}", f"{second:#.{digits}g}"
        if texts[0] != texts[1] or first == second or digits >= MOST_DIGITS:
            return texts[0].removesuffix("."), texts[1].removesuffix(".")
        digits += 1


def format_path(file: str) -> str:
    """Return a path as seen from the working folder, if it lies below it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def format_duration(seconds: float) -> str:
    """Return a time span for people: 48 s, 12 min, 3 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def format_bytes(size: float) -> str:
    """Return a number of bytes for people: 354 B, 12 kB, 71 MB, 3.4 GB."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    if size >= 1e6:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e3:.0f} kB" if size >= 1e3 else f"{size:.0f} B"
