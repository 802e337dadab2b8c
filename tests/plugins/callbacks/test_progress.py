"""What a run says while it goes on."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from imginav_callbacks import EarlyStopping, Progress, progress

MakeRun = Callable[..., Any]


def test_without_a_terminal_there_are_plain_lines(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    make_run({"progress": Progress(line_seconds=1e-9)}, epochs=2).fit()
    lines = capsys.readouterr().out.splitlines()
    number = r"[\d.e+-]+"
    steps = [
        rf"epoch {epoch}/2  step {step}/2  \d+ s left  \d+ img/s  mse {number}  segmentation {number}  loss {number}"
        for epoch in (1, 2)
        for step in (1, 2)
    ]
    steps[0] = steps[0].replace(r"  \d+ s left", "")  # of how long the others take, the first step says nothing
    ends = [
        rf"epoch {epoch}/2  train_loss {number}  val_loss {number}  val_mse {number}  PSNR {number} dB  "
        rf"\d+ img/s  \d+ s(  best)?"
        for epoch in (1, 2)
    ]
    expected = [*steps[:2], ends[0], *steps[2:], ends[1]]
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), line


def test_lines_come_no_more_often_than_asked_for(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    make_run({"progress": Progress(line_seconds=1e6)}, epochs=2).fit()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        ["epoch 1/2", lines[0].split("  ")[1]],
        ["epoch 2/2", lines[1].split("  ")[1]],
    ]
    assert not [line for line in lines if " left" in line]


def test_small_values_are_told_apart_and_the_best_is_marked(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run({"progress": Progress(line_seconds=1e6), "stop": EarlyStopping(patience=1)}, epochs=9)
    run.fit([0.0095, 0.0093, 0.0094])
    lines = capsys.readouterr().out.splitlines()
    assert [re.search(r"val_loss (\S+)", line)[1] for line in lines] == ["0.0095", "0.0093", "0.0094"]  # type: ignore[index]
    assert [line.endswith("best") for line in lines] == [True, True, False]


def test_a_long_line_is_not_broken(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    make_run({"progress": Progress(line_seconds=1e6)}, epochs=2).fit()
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_terminal_gets_a_live_bar_that_is_taken_away_at_the_end(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=200, highlight=False)
    monkeypatch.setattr(progress, "Console", lambda **_: terminal)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    run = make_run({"progress": Progress()}, epochs=2)
    run.fit()
    shown = screen.getvalue()
    assert "validating" in shown
    assert re.search(r"epoch 2/2.*PSNR", shown)
    hidden, back = "\x1b[?25l", "\x1b[?25h"
    assert shown.rindex(back) > shown.rindex(hidden)


def test_the_display_is_closed_also_where_no_run_was_started(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run({"progress": Progress()})
    run.trainer.hooks.run_closed(run.trainer)
    assert capsys.readouterr().out == ""
