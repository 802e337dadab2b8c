"""The log of a run's steps: what it holds, that it is bounded, and that it resumes exactly."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from imginav import hookimpl
from imginav.training.trainer import Trainer
from imginav_callbacks import GradientClipping, StepLog
from imginav_callbacks import step_log as module
from imginav_callbacks.step_log import Rows
from imginav_tests.csv_tables import read_table

MakeRun = Callable[..., Any]


def read(path: Path) -> list[dict[str, float]]:
    return [{name: float(cell) for name, cell in row.items()} for row in read_table(path)]


class Witness:
    """Sees what the trainer says of each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.clipped: list[float] = []

    @hookimpl(trylast=True)
    def gradients_ready(self, trainer: Trainer) -> None:
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        self.clipped.append(float(torch.nn.utils.get_total_norm(gradients)))

    @hookimpl
    def step_finished(self, trainer: Trainer, terms: dict[str, Tensor]) -> None:
        assert trainer.gradient_norm is not None
        self.steps.append(
            {
                "step": trainer.step,
                "epoch": trainer.epoch,
                "gradient_norm": float(trainer.gradient_norm),
                **{name if name == "loss" else f"loss_{name}": float(term) for name, term in terms.items()},
            }
        )


def test_each_step_has_its_losses_its_gradient_norm_and_its_learning_rate(make_run: MakeRun) -> None:
    witness = Witness()
    run = make_run(
        {"gradient_clipping": GradientClipping(max_norm=0.01), "step_log": StepLog()}, {"witness": witness}, epochs=3
    )
    run.fit()
    rows = read(run.folder.steps)
    assert [{name: row[name] for name in seen} for row, seen in zip(rows, witness.steps, strict=True)] == witness.steps
    assert [row["learning_rate"] for row in rows] == [1e-2] * len(rows)
    assert [row["steps"] for row in rows] == [1] * len(rows)
    assert all(row["min_loss"] == row["loss"] == row["max_loss"] for row in rows)
    # The norm is that of the gradients as they came, not as they were clipped.
    assert all(norm <= 0.0101 for norm in witness.clipped)
    assert all(row["gradient_norm"] > 0.02 for row in rows)
    assert run.folder.steps.name == "tiny_steps.csv"


def test_the_learning_rate_is_that_of_the_step_and_not_of_the_next(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer("train.lr_schedule={type='cosine', warmup=0.5}")
    rates, before = [], trainer.optimization.learning_rate

    class Reader:
        @hookimpl
        def step_finished(self, trainer: Trainer) -> None:
            nonlocal before
            rates.append(trainer.learning_rate == before)
            before = trainer.optimization.learning_rate

    trainer.hooks.add("reader", Reader())
    trainer.fit()
    assert rates
    assert all(rates)


def filled(steps: int, most: int) -> Rows:
    rows = Rows(most)
    for step in range(1, steps + 1):
        rows.add(step, 1 + step // 10, {"loss": float(step), "gradient_norm": float(-step)})
    return rows


@pytest.mark.parametrize("most", [2, 3, 7, 8])
def test_a_long_run_has_no_more_rows_than_allowed_and_no_step_is_lost(most: int) -> None:
    for steps in range(1, 130):
        rows = list(filled(steps, most))
        assert len(rows) <= most
        assert len(rows) > most // 2 or steps <= most // 2
        assert sum(row["steps"] for row in rows) == steps
        assert rows[-1]["step"] == steps
        assert len({row["steps"] for row in rows[:-1]}) <= 1  # all but the last are of equally many steps
        for row in rows:
            first = row["step"] - row["steps"] + 1
            assert (row["min_loss"], row["max_loss"]) == (first, row["step"])
            assert row["loss"] == (first + row["step"]) / 2
            assert (row["min_gradient_norm"], row["max_gradient_norm"]) == (-row["step"], -first)


@pytest.mark.parametrize("broken", [1, 5, 23, 24, 25, 60])
def test_rows_that_are_saved_and_restored_go_on_as_if_they_had_not_been(broken: int) -> None:
    first = filled(broken, 6)
    rows = Rows(6)
    rows.load_state_dict(first.state_dict())
    for step in range(broken + 1, 100):
        rows.add(step, 1 + step // 10, {"loss": float(step), "gradient_norm": float(-step)})
    assert list(rows) == list(filled(99, 6))
    assert list(Rows(6)) == []
    empty = Rows(6)
    empty.load_state_dict(Rows(6).state_dict())
    assert list(empty) == []


def test_what_is_not_a_number_stays_so_when_rows_are_merged() -> None:
    rows = Rows(2)
    for step, loss in enumerate((1.0, math.nan, 3.0, 4.0), start=1):
        rows.add(step, 1, {"loss": loss})
    first, second = rows
    assert all(math.isnan(first[name]) for name in ("loss", "min_loss", "max_loss"))
    assert (second["min_loss"], second["loss"], second["max_loss"]) == (3.0, 3.5, 4.0)


def test_a_loss_that_comes_later_is_missing_in_the_rows_before() -> None:
    rows = Rows(9)
    rows.add(1, 1, {"loss": 1.0})
    rows.add(2, 1, {"loss": 2.0, "loss_new": 5.0})
    first, second = rows
    assert math.isnan(first["loss_new"])
    assert second["loss_new"] == 5.0


@pytest.mark.parametrize("read_every", [1, 2, 50])
def test_a_run_that_is_resumed_within_an_epoch_ends_with_the_same_file(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, read_every: int
) -> None:
    monkeypatch.setattr(module, "READ_EVERY", read_every)
    callbacks = {"step_log": StepLog(rows=4)}
    whole = make_run(callbacks, epochs=4)
    whole.fit()
    expected = whole.folder.steps.read_text()

    class StoppedError(Exception):
        pass

    class Saver:
        """Keeps the state after a step, and ends the run some steps later, as if it were killed."""

        state: dict[str, Any]

        @hookimpl(trylast=True)
        def step_finished(self, trainer: Trainer) -> None:
            if trainer.step == 5:
                self.state = {"model": trainer.model.state_dict(), "training": trainer.state_dict()}
                self.state = torch.load(_saved(self.state), weights_only=True)
            if trainer.step == 7:
                raise StoppedError

    saver = Saver()
    broken = make_run(callbacks, {"saver": saver}, epochs=4)
    with pytest.raises(StoppedError):
        broken.fit()
    resumed = make_run(callbacks, epochs=4)
    resumed.trainer.model.load_state_dict(saver.state["model"])
    resumed.trainer.load_state_dict(saver.state["training"])
    resumed.start()
    assert [row["step"] for row in read(resumed.folder.steps)][-1] == 5  # what came after is not known any more
    resumed.fit()
    assert resumed.folder.steps.read_text() == expected


def _saved(state: object) -> Any:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def test_the_values_are_read_in_groups(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    stacked: list[int] = []
    stack = torch.stack

    def counted(tensors: list[Tensor], *arguments: Any, **options: Any) -> Tensor:
        stacked.append(len(tensors))
        return stack(tensors, *arguments, **options)

    run = make_run({"step_log": StepLog()}, epochs=2)
    monkeypatch.setattr(module.torch, "stack", counted)
    run.fit()
    values = 2 + len(run.trainer.objective.weights)  # the losses, their sum, the gradient norm
    assert stacked.count(2 * values) == 2  # once an epoch of two steps


def test_it_is_an_observer_and_says_what_it_needs_of_the_disk() -> None:
    assert StepLog.observer
    assert 100_000 < StepLog().disk_bytes(0, 0, 10) < 2_000_000
