"""How good a run has become after how many seconds of training: points of a curve, taken while it trains."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
from attrs import field, frozen

from imginav import Callback, UserError, hookimpl
from imginav.plugin.validators import above
from imginav.runs.run_folder import RunFolder
from imginav.training.metric_definitions import PART
from imginav.training.trainer import Trainer
from imginav.training.validation import validate
from imginav_evaluation.csv_files import write_rows
from imginav_evaluation.reconstruction import Reconstructions
from imginav_metrics import PaletteClasses

POINTS = "quality.csv"
"""The points of a run, in its folder."""

FIGURES = ("palette_accuracy", "mean_iou", "wall_recall")
"""Of the palette's metric, what a point has beside the MSE; NaN where the layouts' classes are not known."""


@frozen(kw_only=True)
class Point:
    """What the weights are worth at one moment of the training, over all whole validation layouts."""

    seconds: float  # of training: of steps, and of loading their batches; nothing that is measured or saved
    epoch: int  # that ran, from 1
    step: int  # optimizer steps
    images: int  # trained on
    val_mse: float  # in [-1, 1]
    val_psnr_db: float  # of that MSE
    palette_accuracy: float  # 0 to 1, as the two that follow
    mean_iou: float
    wall_recall: float


@frozen(kw_only=True)
class Quality(Callback):
    """Measure a run after each epoch, and between at times that grow geometrically, off the clock of its training."""

    observer: ClassVar[bool] = True

    first_seconds: float = field(default=4.0, validator=above(0))  # of training, before the first point in an epoch
    growth: float = field(
        default=1.3, validator=above(1)
    )  # of the seconds of training from a point to the next in an epoch

    def build(self) -> object:
        return QualityMeter(self)


class QualityMeter:
    """Takes the points of a run, and writes all of them anew after each; they survive a restart in its checkpoints."""

    def __init__(self, config: Quality) -> None:
        self._growth = config.growth
        self._next = config.first_seconds  # of training, when the next point is due within an epoch
        self._points: list[Point] = []
        self._seconds, self._images = 0.0, 0  # of training so far
        self._seen_seconds, self._seen_images = 0.0, 0  # of these, in the epoch that runs, as its tally had them
        self._paused = 0.0  # since the tally was seen, and counted here if it was training; the tally counts all of it
        self._path: Path

    @hookimpl
    def run_started(self, trainer: Trainer, folder: RunFolder) -> None:
        if "rgb" not in trainer.model.output_names:
            raise UserError(
                f"{folder.experiment} has no output rgb, so that its MSE cannot be measured; add a head that makes it"
            )
        self._path = folder.root / POINTS
        if self._points:
            write_points(self._path, self._points)

    @hookimpl
    def step_finished(self, trainer: Trainer) -> None:
        totals = trainer.totals
        if totals is None:
            return
        self._seconds += totals.seconds - self._seen_seconds - self._paused
        self._images += totals.images - self._seen_images
        self._seen_seconds, self._seen_images, self._paused = totals.seconds, totals.images, 0.0
        last = totals.batches == trainer.data.steps_per_epoch
        if self._seconds < self._next and not last:
            return
        # A GPU may not be done with the steps yet; the rest of them is training, and counted here at once.
        start = time.perf_counter()
        trainer.device.wait()
        self._seconds += time.perf_counter() - start
        if not last:  # where the point of the epoch follows
            # As at the end of an epoch: what averages weights puts in place the ones that would be kept.
            trainer.hooks.validation_started(trainer, trainer.epoch)
            point = self._measured(trainer)
            trainer.model.train()
            trainer.restore_weights()
            trainer.hooks.epoch_started(trainer, trainer.epoch)
            self._add(point)
        self._paused = time.perf_counter() - start

    @hookimpl
    def epoch_finished(self, trainer: Trainer) -> None:
        self._add(self._measured(trainer))
        self._seen_seconds, self._seen_images, self._paused = 0.0, 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        return {
            "points": [attrs.asdict(point) for point in self._points],
            "next": self._next,
            "seconds": self._seconds,
            "images": self._images,
            "seen_seconds": self._seen_seconds,
            "seen_images": self._seen_images,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._points = [Point(**row) for row in state["points"]]
        self._next, self._seconds, self._images = state["next"], state["seconds"], state["images"]
        self._seen_seconds, self._seen_images = state["seen_seconds"], state["seen_images"]

    def _add(self, point: Point) -> None:
        self._points.append(point)
        self._next = max(self._next, point.seconds * self._growth)
        write_points(self._path, self._points)

    def _measured(self, trainer: Trainer) -> Point:
        data, model = trainer.data, trainer.model
        seen = Reconstructions(
            {"palette": PaletteClasses()}, data.source.spec, model.output_names, data.image_size, trainer.device
        )
        batches = trainer.unless_stopped(data.validation_batches())
        metrics = validate(model, trainer.objective, batches, trainer.device, seen.see)
        figures = seen.figures()
        return Point(
            seconds=self._seconds,
            epoch=trainer.epoch,
            step=trainer.step,
            images=self._images,
            val_mse=metrics["val_mse"],
            val_psnr_db=metrics["val_psnr_db"],
            **{name: figures.get(f"{PART}{name}", float("nan")) for name in FIGURES},
        )


def write_points(path: Path, points: Sequence[Point]) -> None:
    """Write the points of a run as a CSV file, whole or not at all."""
    write_rows(path, map(attrs.asdict, points), [attribute.name for attribute in attrs.fields(Point)])


def read_points(path: Path) -> list[Point]:
    """Return the points of a run; raises UserError where the file is not there, or is none of these."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            points = [_point(row) for row in csv.DictReader(stream)]
    except (OSError, ValueError, TypeError, LookupError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: cannot be read ({reason}); move its folder away, and it is trained anew") from None
    if not points:
        raise UserError(f"{path}: holds no points; move its folder away, and it is trained anew")
    return points


def _point(row: Mapping[str, str]) -> Point:
    whole = {name: int(row[name]) for name in ("epoch", "step", "images")}
    figures = {name: float(cell) for name, cell in row.items() if name not in whole}
    return Point(**whole, **figures)  # type: ignore[arg-type]  # which of both a field is, mypy cannot see
