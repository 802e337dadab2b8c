"""Tables and figures for a terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from imginav.registry import Registry

MOST_DIGITS = 17
"""Significant digits that tell any two floats apart."""


def print_components(registry: Registry) -> None:
    """Print kind, name, distribution and version, file and description of each component."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "name", "from", "file"):
        table.add_column(heading, overflow="fold" if heading == "file" else "ellipsis", no_wrap=heading != "file")
    table.add_column("what it is", overflow="fold")
    for r in registry:
        table.add_row(r.kind, r.name, f"{r.provider.distribution} {r.provider.version}", _short(r.file), r.description)
    console = Console()
    # Into a pipe or a file, each component takes one line, so that it can be searched.
    Console(width=console.width if console.is_terminal else 400).print(table)


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool]) -> None:
    """Print rows of cells under headings, the marked ones in bold."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row, bold in zip(rows, marked, strict=True):
        table.add_row(*row, style="bold" if bold else "")
    console = Console(highlight=False, markup=False)
    Console(width=console.width if console.is_terminal else 200, highlight=False, markup=False).print(table)


def stream_lines() -> None:
    """Let each line out as it is printed, also into a file or a pipe: logs are read while a run goes on."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _short(file: str) -> str:
    """Return a path as seen from the working folder, where it lies below it."""
    path = Path(file)
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else file


def apart(first: float, second: float, digits: int = 3) -> tuple[str, str]:
    """Return two figures with as many significant digits as tell them apart, three at least."""
    while True:
        texts = f"{first:#.{digits}g}", f"{second:#.{digits}g}"
        if texts[0] != texts[1] or first == second or digits >= MOST_DIGITS:
            return texts[0].removesuffix("."), texts[1].removesuffix(".")
        digits += 1


def duration(seconds: float) -> str:
    """Return a time span for people: 48 s, 12 min, 3 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def gigabytes(size: float) -> str:
    """Return a number of bytes for people: 354 B, 12 kB, 71 MB, 3.4 GB."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    if size >= 1e6:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e3:.0f} kB" if size >= 1e3 else f"{size:.0f} B"
