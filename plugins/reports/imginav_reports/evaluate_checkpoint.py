"""`imginav evaluate`: a checkpoint, from its file to its figures and its page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import frozen

from imginav.errors import UserError
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.checkpoint import Checkpoint, load_checkpoint
from imginav.plugin.registry import Registry
from imginav.runs.evaluation_result import EvaluationResult, load_evaluation
from imginav.runs.records import load_record
from imginav.runs.run_folder import EVALUATION, RECORD
from imginav.training.assembly import assemble
from imginav.training.device import limits_named
from imginav_evaluation.checkpoint_manifest import resolve
from imginav_evaluation.evaluate import Weights, evaluate
from imginav_reports import run_page
from imginav_reports.metrics_file import read_metrics

Log = Callable[[str], None]


@frozen(kw_only=True)
class Request:
    """What is to be evaluated, and on what."""

    checkpoint: Path
    data: Path | None = None  # a list of other layouts, all of which are evaluated; none: the validation layouts
    to: Path | None = None  # the folder for what is written; none: one beside the checkpoint, with its name
    site: Path | None = None
    settings: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.to or self.checkpoint.with_name(f"{self.checkpoint.stem}_evaluation")


def evaluate_checkpoint(request: Request, registry: Registry, log: Log = print) -> EvaluationResult:
    """Measure the weights of a checkpoint, and write figures, pictures and a page into a folder.

    Raises UserError where the checkpoint cannot be read, does not fit its manifest, or the layouts cannot be had.
    """
    checkpoint = load_checkpoint(request.checkpoint)
    resolved = resolve(
        request.checkpoint,
        checkpoint,
        registry,
        data=request.data,
        site=request.site,
        settings=request.settings,
    )
    _refuse_folder_of_a_run(request, resolved)
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--to {request.folder}: cannot be made: {error.strerror}; name another folder") from error
    parts = assemble(resolved.manifest, log, trains=False, whole=request.data is not None)
    with closing(parts.data), limits_named():
        try:
            parts.model.load_state_dict(checkpoint.model)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"{request.checkpoint}: does not fit what its manifest now builds ({reason}); a plugin may have "
                "changed, or a --set: restore it"
            ) from error
        weights = Weights(
            model=parts.model,
            objective=parts.objective,
            data=parts.data,
            device=parts.device,
            weights_epoch=checkpoint.epoch,
            epoch=checkpoint.epoch,
        )
        evaluation = evaluate(weights, resolved, request.folder, timed=True)
    evaluation.save(request.folder / EVALUATION)
    run_page.write(evaluation, request.folder, resolved, _history(request.checkpoint, checkpoint, resolved))
    return evaluation


def _refuse_folder_of_a_run(request: Request, resolved: ResolvedManifest) -> None:
    """Raise UserError where a run's own evaluation, by which winners are chosen, would be replaced by another one."""
    record = load_record(request.folder / RECORD)
    if record is None:
        return
    of_this_run = record.experiment == resolved.manifest.phase.experiment and not (request.data or request.settings)
    try:
        load_evaluation(request.folder / EVALUATION)
    except UserError:
        if of_this_run:
            return
    raise UserError(
        f"--to {request.folder}: is the folder of the run {record.experiment}, whose own evaluation would be lost; "
        "name another folder, or leave --to out"
    )


def _history(path: Path, checkpoint: Checkpoint, resolved: ResolvedManifest) -> Sequence[dict[str, Any]]:
    """Return the metrics of the epochs before, from the checkpoint or from the file that lies beside it."""
    if checkpoint.training is not None:
        return list(checkpoint.training["history"])
    metrics = path.with_name(f"{resolved.manifest.phase.experiment}_metrics.csv")
    try:
        rows = read_metrics(metrics)
    except UserError:
        return []
    return [row for row in rows if row.get("epoch", math.inf) <= checkpoint.epoch]
