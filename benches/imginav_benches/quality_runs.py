"""The runs of a comparison, one after the other; what is finished stays, and what is not goes on."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from imginav import UserError
from imginav.files import write_text
from imginav.manifest.fingerprints import sha256_of_tables
from imginav.manifest.resolved import ResolvedManifest
from imginav.pixels import to_bytes
from imginav.plugin.checkpoint import load_checkpoint
from imginav.plugin.registry import installed
from imginav.processes.stop_request import StopRequest
from imginav.runs.evaluation_result import EvaluationResult, load_evaluation
from imginav.runs.experiment import build_trainer, is_finished, run_experiment, run_folder
from imginav.runs.run_folder import EVALUATION, RunFolder
from imginav.training.trainer import Trainer
from imginav_benches.arm_files import Entry
from imginav_benches.quality import POINTS, Point, read_points
from imginav_evaluation.pictures import Pixels
from imginav_reports.evaluate_checkpoint import Request, evaluate_checkpoint

Log = Callable[[str], None]

PACE = "pace.json"
"""How many epochs each arm is trained for, where they follow from minutes."""

WARM_UP_STEPS = 3

TIMED_STEPS, TIMED_SECONDS = 20, 10.0
"""The pace of an arm is that of so many steps, or of those that fit into so many seconds."""


@frozen(kw_only=True)
class Trained:
    """A finished run."""

    arm: str
    seed: int
    points: tuple[Point, ...]
    evaluation: EvaluationResult
    elsewhere: EvaluationResult | None  # the same weights on other data

    @property
    def images_per_second(self) -> float:
        """Of training."""
        return self.points[-1].images / self.points[-1].seconds


def train_all(runs: Sequence[Entry], stop_request: StopRequest, log: Log) -> list[Trained]:
    """Train what is not finished, in turns; raises Interrupted where it is asked to leave, saved."""
    return [_train(run, f"{number} of {len(runs)}", stop_request, log) for number, run in enumerate(runs, start=1)]


def _train(run: Entry, number: str, stop_request: StopRequest, log: Log) -> Trained:
    name, folder = run.resolved.manifest.phase.experiment, run_folder(run.resolved)
    if is_finished(run.resolved):
        log(f"run {number}: {name} is finished")
        evaluation = load_evaluation(folder.evaluation)
    else:
        log(f"run {number}: {name}")
        warm_up(run.resolved)
        # Its latency is what the benches of encoding and decoding measure.
        evaluation = run_experiment(run.resolved, log, stop_request=stop_request, timed=False)
    return Trained(
        arm=run.arm,
        seed=run.seed,
        points=tuple(read_points(folder.root / POINTS)),
        evaluation=evaluation,
        elsewhere=_evaluated_elsewhere(run, folder, evaluation, log) if run.elsewhere else None,
    )


def _evaluated_elsewhere(run: Entry, folder: RunFolder, evaluation: EvaluationResult, log: Log) -> EvaluationResult:
    """Return what the weights that a run left are worth on other data, measured once."""
    # Of other settings, another folder.
    digest = hashlib.sha256("\n".join(run.elsewhere).encode()).hexdigest()[:8]
    to = folder.root / f"elsewhere_{digest}"
    try:
        return load_evaluation(to / EVALUATION)
    except UserError:
        log(f"{folder.experiment} on data with {', '.join(run.elsewhere)}")
    request = Request(checkpoint=_left_by(folder, evaluation), to=to, settings=run.elsewhere)
    return evaluate_checkpoint(request, installed(), log)


def _left_by(folder: RunFolder, evaluation: EvaluationResult) -> Path:
    """Return the checkpoint with the weights that a run has left."""
    for path in (folder.latest_checkpoint, folder.best_checkpoint):
        if path.is_file() and load_checkpoint(path).epoch == evaluation.weights_epoch:
            return path
    raise UserError(
        f"{folder.root}: has no checkpoint of epoch {evaluation.weights_epoch}, whose weights the run has left; move "
        "the folder away, and it is trained anew"
    )


def epochs_of(runs: Iterable[Entry], minutes: float, folder: Path, log: Log) -> dict[str, int]:
    """Return for how many epochs each arm trains in so many minutes, at least one; one run of each arm is enough.

    Its pace is measured once and noted, since a run that goes on must have as many epochs as it began with.
    """
    path = folder / PACE
    noted = _noted(path)
    found = {}
    for run in runs:
        # What an epoch takes follows from these, and not from how many there are.
        key = sha256_of_tables([minutes, *_without_epochs(run.resolved)])
        own = noted.get(run.arm, {})
        if own.get("of") != key:
            seconds = seconds_per_epoch(run.resolved)
            own = {"of": key, "epochs": max(1, round(60 * minutes / seconds)), "seconds_per_epoch": seconds}
            noted[run.arm] = own
            write_text(path, json.dumps(noted, indent=2) + "\n")
        found[run.arm] = int(own["epochs"])
        log(f"{run.arm}: {own['seconds_per_epoch']:.3g} s an epoch, and so {found[run.arm]} in {minutes:g} min")
    return found


def _noted(path: Path) -> dict[str, dict[str, Any]]:
    try:
        noted: dict[str, dict[str, Any]] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); take it away, and the pace is measured anew") from None
    return noted


def seconds_per_epoch(resolved: ResolvedManifest) -> float:
    """Return what an epoch of training takes, from the time of some steps after warming up."""
    trainer = build_trainer(resolved, lambda _: None)
    with closing(trainer.data):
        steps = _steps(trainer)
        for _ in range(WARM_UP_STEPS):
            next(steps)
        start, taken, seconds = time.perf_counter(), 0, 0.0
        while taken < TIMED_STEPS and seconds < TIMED_SECONDS:
            next(steps)
            taken, seconds = taken + 1, time.perf_counter() - start
        return seconds / taken * trainer.data.steps_per_epoch


def warm_up(resolved: ResolvedManifest) -> None:
    """Take steps that are forgotten: the first ones of a process set libraries up, at the cost of one arm alone."""
    trainer = build_trainer(resolved, lambda _: None)
    with closing(trainer.data):
        for _, _ in zip(range(WARM_UP_STEPS), _steps(trainer), strict=False):
            pass


def _steps(trainer: Trainer) -> Iterator[None]:
    """Train without an end; each step is done when the next one is asked for."""
    trainer.model.train()
    for epoch in itertools.count(1):
        for batch in trainer.data.train_batches(epoch):
            if batch:  # or nothing of it could be read
                trainer.train_step(trainer.device.batch(batch))
                trainer.device.wait()
                yield


def _without_epochs(resolved: ResolvedManifest) -> list[Mapping[str, Any]]:
    tables = resolved.tables
    train = {key: value for key, value in tables["train"].items() if key not in ("epochs", "seed")}
    return [train, *(tables.get(key, {}) for key in ("data", "encoder", "decoder", "losses", "machine"))]


@torch.no_grad()
def rebuilt(run: Entry, evaluation: EvaluationResult, count: int) -> list[tuple[Pixels, Pixels, float]]:
    """Return the first validation layouts, what the weights that a run left make of each, and its MSE in [-1, 1]."""
    checkpoint = load_checkpoint(_left_by(run_folder(run.resolved), evaluation))
    trainer = build_trainer(run.resolved, lambda _: None)
    with closing(trainer.data):
        trainer.model.load_state_dict(checkpoint.model)
        trainer.model.eval()
        found = []
        for layout in trainer.data.validation_samples(count)["rgb"]:
            images = trainer.device.batch({"rgb": layout[None]})["rgb"]
            with trainer.device.autocast():
                output: Tensor = trainer.model(images)["rgb"].float()
            mse = float(torch.mean((output - images).square()))
            found.append((layout.numpy(), to_bytes(output)[0], mse))
        return found
