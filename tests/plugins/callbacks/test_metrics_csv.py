"""The table of a run's metrics."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imginav import hookimpl
from imginav_callbacks import EarlyStopping, MetricsCsv
from imginav_tests.csv_tables import read_table

MakeRun = Callable[..., Any]


def read(path: Path) -> list[dict[str, float]]:
    return [{name: float(cell) for name, cell in row.items()} for row in read_table(path)]


def test_there_is_a_row_for_each_epoch_with_all_metrics_in_full(make_run: MakeRun) -> None:
    run = make_run({"metrics_csv": MetricsCsv()}, epochs=3)
    trainer = run.fit()
    assert read(run.folder.metrics) == trainer.history
    header = run.folder.metrics.read_text().splitlines()[0].split(",")
    assert header == list(trainer.history[0])
    assert header[0] == "epoch"
    assert {"train_loss_mse", "val_loss_segmentation_weighted", "val_mse", "val_psnr_db", "seconds"} <= set(header)


def test_the_epoch_in_which_the_run_stops_has_its_row(make_run: MakeRun) -> None:
    callbacks = {"early_stopping": EarlyStopping(patience=1), "metrics_csv": MetricsCsv()}
    for order in (callbacks, dict(reversed(callbacks.items()))):
        run = make_run(order, epochs=9)
        run.fit([0.0095, 0.0093, 0.0094])
        assert [(row["epoch"], row["val_loss"]) for row in read(run.folder.metrics)] == [
            (1, 0.0095), (2, 0.0093), (3, 0.0094),
        ]  # fmt: skip


def test_the_file_is_whole_after_each_epoch(make_run: MakeRun) -> None:
    class Reader:
        def __init__(self) -> None:
            self.rows: list[int] = []

        @hookimpl
        def epoch_finished(self) -> None:
            self.rows.append(len(read(run.folder.metrics)))

    reader = Reader()
    run = make_run({"metrics_csv": MetricsCsv()}, {"reader": reader}, epochs=3)
    run.fit()
    assert reader.rows == [1, 2, 3]


def test_the_phases_folder_has_the_same_file(make_run: MakeRun) -> None:
    run = make_run({"metrics_csv": MetricsCsv()}, epochs=2)
    run.fit()
    copy = run.folder.shared / "tiny_metrics.csv"
    assert copy.read_bytes() == run.folder.metrics.read_bytes()
    assert len(read(copy)) == 2


def test_a_run_that_goes_on_neither_loses_rows_nor_doubles_them(make_run: MakeRun) -> None:
    state = make_run({"metrics_csv": MetricsCsv()}, epochs=2).fit().state_dict()
    run = make_run({"metrics_csv": MetricsCsv()}, epochs=3)
    run.trainer.load_state_dict(state)
    run.fit()
    assert [row["epoch"] for row in read(run.folder.metrics)] == [1, 2, 3]


def test_where_a_run_goes_on_the_file_becomes_what_the_run_knows(make_run: MakeRun) -> None:
    run = make_run({"metrics_csv": MetricsCsv()}, epochs=3)
    trainer = run.fit()
    # It goes on after the second epoch; the third row is of an epoch that is not finished any more.
    del trainer.history[2]
    run.start()
    assert [row["epoch"] for row in read(run.folder.metrics)] == [1, 2]
    assert (run.folder.shared / "tiny_metrics.csv").read_bytes() == run.folder.metrics.read_bytes()


def test_new_columns_stand_behind_the_old_ones_which_stay(make_run: MakeRun) -> None:
    run = make_run({"metrics_csv": MetricsCsv()}, epochs=1)
    trainer = run.fit()
    columns = list(trainer.history[0])
    later = {name: value for name, value in trainer.history[0].items() if not name.startswith("val_loss_seg")}
    trainer.history.append({"new_term": 7.0, **later, "epoch": 2})
    trainer.hooks.epoch_finished(trainer, trainer.history[1])
    with run.folder.metrics.open(newline="") as stream:
        header, first, second = csv.reader(stream)
    assert header == [*columns, "new_term"]
    assert first[-1] == ""
    assert dict(zip(header, second, strict=True))["new_term"] == "7.0"
    assert dict(zip(header, second, strict=True))["val_loss_segmentation"] == ""
