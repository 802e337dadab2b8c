"""What a run says while it goes on."""

from __future__ import annotations

import copy
import io
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from imginav import hookimpl
from imginav_callbacks import EarlyStopping, Progress, progress

MakeRun = Callable[..., Any]


def test_without_a_terminal_there_are_plain_lines(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WARM_UP_STEPS", 1)
    make_run({"progress": Progress(line_seconds=1e-9)}, epochs=2).fit()
    lines = capsys.readouterr().out.splitlines()
    number = r"[\d.e+-]+"
    steps = [
        rf"epoch {epoch}/2  step {step}/2  \d+ s left  \d+ img/s  mse {number}  segmentation {number}  loss {number}"
        for epoch in (1, 2)
        for step in (1, 2)
    ]
    steps[0] = steps[0].replace(r"  \d+ s left", "")  # how long the others take, a step of the warm-up does not say
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


class EachStepTakes:
    """Stops the clock, but for so many seconds in each step; keeps the trainer's state after each of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run: Any, seconds: float) -> None:
        self.states: list[dict[str, Any]] = []
        clock = [100.0]
        train_step = run.trainer.train_step

        def step(batch: Any, *shard: Any) -> Any:
            clock[0] += seconds
            return train_step(batch, *shard)

        monkeypatch.setattr(run.trainer, "train_step", step)
        monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    @hookimpl
    def step_finished(self, trainer: Any) -> None:
        self.states.append(copy.deepcopy(trainer.state_dict()))


def speeds(shown: str) -> list[tuple[int, int]]:
    """Return the number of each step within its epoch, with the images per second beside it."""
    return [(int(s), int(v)) for s, v in re.findall(r"step (\d+)/5 .* (\d+) img/s", shown)]


def test_each_crop_counts_as_an_image_also_in_an_epoch_that_goes_on(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run({"progress": Progress(line_seconds=1e-9)}, epochs=2, crops=3)
    steps = EachStepTakes(monkeypatch, run, 0.5)
    run.trainer.hooks.add("steps", steps)
    run.fit()
    # 3 crops of each of 6 layouts, 4 of them in half a second, but 2 in the last step: 18 in 2.5 s.
    an_epoch = [(1, 8), (2, 8), (3, 8), (4, 8), (5, 7)]
    assert speeds(capsys.readouterr().out) == [*an_epoch, *an_epoch]

    resumed = make_run({"progress": Progress(line_seconds=1e-9)}, epochs=2, crops=3)
    EachStepTakes(monkeypatch, resumed, 0.25)
    resumed.trainer.load_state_dict(steps.states[2])
    resumed.fit()
    # What the attempt before has seen of the epoch is not counted again: 4 in 0.25 s, then 6 in 0.5 s.
    assert speeds(capsys.readouterr().out) == [(4, 16), (5, 12), (1, 16), (2, 16), (3, 16), (4, 16), (5, 14)]
