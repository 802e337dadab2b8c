"""Tables and figures for a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from imginav.verbosity import is_quiet

T = TypeVar("T")


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool]) -> None:
    """Print rows of cells under headings, the marked ones in bold."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row, bold in zip(rows, marked, strict=True):
        table.add_row(*row, style="bold" if bold else "")
    console = Console(highlight=False, markup=False)
    Console(width=console.width if console.is_terminal else 200, highlight=False, markup=False).print(table)


def show_progress(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """Return the items; a terminal or a notebook shows a bar of how many of `total` are done while they are taken."""
    console = Console(quiet=is_quiet())
    return track(items, what, total=total, console=console, transient=True, disable=not shows_bars(console))


def shows_bars(console: Console) -> bool:
    """Whether a bar can be shown: on a terminal, and in a notebook where ipywidgets, which draws it, is installed."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def stream_lines() -> None:
    """Let each line out as it is printed, also into a file or a pipe: logs are read while a run goes on."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
