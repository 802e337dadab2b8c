"""Figures and tables for a terminal."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from imginav.formatting import apart, format_bytes, format_duration
from imginav.terminal import print_table, shows_bars


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89.4, "89 s"), (90, "2 min"), (5369, "89 min"), (5400, "1 h 30 min"), (36000, "10 h 0 min")],
)
def test_a_time_is_said_as_a_person_would(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("first", "second", "texts"),
    [
        (0.0011, 0.00159, ("0.00110", "0.00159")),
        (0.0095, 0.0093, ("0.00950", "0.00930")),
        (0.30001, 0.30002, ("0.30001", "0.30002")),
        (0.5, 0.5, ("0.500", "0.500")),
        (100.0, 120.0, ("100", "120")),
        (0.1, 0.1 + 2e-17, ("0.10000000000000001", "0.10000000000000002")),
    ],
)
def test_two_figures_have_the_digits_that_tell_them_apart(first: float, second: float, texts: tuple[str, str]) -> None:
    assert apart(first, second) == texts


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (354, "354 B"), (12_300, "12 kB"), (71e6, "71 MB"), (999e6, "999 MB"), (3.44e9, "3.4 GB")],
)
def test_a_size_is_said_in_the_unit_that_fits(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("terminal", "jupyter", "widgets", "expected"),
    [
        (True, False, False, True),
        (False, False, True, False),  # a pipe
        (False, True, True, True),
        (False, True, False, False),  # rich would warn, and show nothing
    ],
)
def test_bars_are_shown_on_a_terminal_and_in_a_notebook_with_widgets(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, jupyter: bool, widgets: bool, expected: bool
) -> None:
    spec = SimpleNamespace() if widgets else None
    monkeypatch.setitem(sys.modules, "ipywidgets", spec and SimpleNamespace(__spec__=spec))
    console = Console(force_terminal=terminal, force_jupyter=jupyter)
    assert shows_bars(console) is expected


def test_a_table_into_a_pipe_has_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Title", ["name", "a long value"], [["one", "[1, 2]"], ["two", "x" * 60]], [False, True])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["Title"]
    assert lines[1] == ["name", "a", "long", "value"]
    assert lines[3:5] == [["one", "[1,", "2]"], ["two", "x" * 60]]
