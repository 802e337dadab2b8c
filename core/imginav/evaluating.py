"""`imginav evaluate`: a checkpoint, from its file to its figures and its page."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import tomli
import tomlkit
from attrs import evolve, frozen

from imginav import report
from imginav.checkpoint import Checkpoint, load_checkpoint
from imginav.device import limits_named
from imginav.errors import UserError
from imginav.evaluation import evaluate
from imginav.loading import AT_TRIAL_SCALE, ResolvedManifest, load
from imginav.outcome import Outcome, load_outcome
from imginav.records import load_record
from imginav.registry import Registry
from imginav.run import build_trainer
from imginav.rundir import EVALUATION, RECORD

Say = Callable[[str], None]

KEPT_OF_DATA = ("image_size", "crop")
"""What still holds where other layouts are evaluated; the crop says how many whole ones fit into memory."""

KEPT_OF_LAYOUTS = ("palette",)
"""The same where they were listed, too: what the decoder's classes are."""


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


def evaluate_checkpoint(request: Request, registry: Registry, say: Say = print) -> Outcome:
    """Measure the weights of a checkpoint, and write figures, pictures and a page into a folder.

    Raises UserError where the checkpoint cannot be read, does not fit its manifest, or the layouts cannot be had.
    """
    checkpoint = load_checkpoint(request.checkpoint)
    resolved = _resolved(request, checkpoint, registry)
    _refuse_folder_of_a_run(request, resolved)
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--to {request.folder}: cannot be made: {error.strerror}; name another folder") from error
    trainer = build_trainer(resolved, say, whole=request.data is not None)
    with closing(trainer.data), limits_named():
        try:
            trainer.model.load_state_dict(checkpoint.model)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"{request.checkpoint}: does not fit what its manifest now builds ({reason}); a plugin may have "
                "changed, or a --set: restore it"
            ) from error
        trainer.weights_epoch = trainer.epoch = checkpoint.epoch
        outcome = evaluate(trainer, resolved, request.folder, timed=True)
    outcome.save(request.folder / EVALUATION)
    report.write(outcome, request.folder, resolved, _history(request.checkpoint, checkpoint, resolved))
    return outcome


def _refuse_folder_of_a_run(request: Request, resolved: ResolvedManifest) -> None:
    """Raise UserError where a run's own evaluation, by which winners are chosen, would be replaced by another one."""
    record = load_record(request.folder / RECORD)
    if record is None:
        return
    of_this_run = record.experiment == resolved.manifest.phase.experiment and not (request.data or request.settings)
    try:
        load_outcome(request.folder / EVALUATION)
    except UserError:
        if of_this_run:
            return
    raise UserError(
        f"--to {request.folder}: is the folder of the run {record.experiment}, whose own evaluation would be lost; "
        "name another folder, or leave --to out"
    )


def _resolved(request: Request, checkpoint: Checkpoint, registry: Registry) -> ResolvedManifest:
    """Return the manifest of a checkpoint, with the layouts and settings that are asked for over it."""
    text = checkpoint.manifest
    if request.data is not None:
        tables = tomli.loads(text)
        kept_keys = KEPT_OF_DATA + (KEPT_OF_LAYOUTS if tables["data"]["type"] == "layouts" else ())
        kept = {key: value for key, value in tables["data"].items() if key in kept_keys}
        tables["data"] = {"type": "layouts", "manifest": str(request.data), **kept}
        text = tomlkit.dumps(tables)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{request.checkpoint.stem}.toml"
        path.write_text(text)
        try:
            # Of the site file that may lie here, what mattered is in the checkpoint; it may be of other layouts.
            resolved = load(path, registry, site=request.site, settings=request.settings, use_site=False)
        except UserError as error:
            raise UserError(str(error).replace(str(path), str(request.checkpoint))) from None
        origins = {
            key: checkpoint.origins.get(key, str(request.checkpoint)) if origin == str(path) else origin
            for key, origin in resolved.origins.items()
        }
    if request.data is not None:
        origins |= {"data.type": f"--data {request.data}", "data.manifest": f"--data {request.data}"}
    trial = AT_TRIAL_SCALE in checkpoint.manifest.partition("\n")[0]
    return evolve(resolved, source=request.checkpoint, origins=origins, trial=trial)


def _history(path: Path, checkpoint: Checkpoint, resolved: ResolvedManifest) -> Sequence[dict[str, Any]]:
    """Return the metrics of the epochs before, from the checkpoint or from the file that lies beside it."""
    if checkpoint.training is not None:
        return list(checkpoint.training["history"])
    metrics = path.with_name(f"{resolved.manifest.phase.experiment}_metrics.csv")
    try:
        with metrics.open(newline="", encoding="utf-8") as stream:
            rows = [
                {name: float(cell) if cell else math.nan for name, cell in row.items()}
                for row in csv.DictReader(stream)
            ]
    except (OSError, ValueError, TypeError):  # it is not there, or somebody else's
        return []
    return [row for row in rows if row.get("epoch", math.inf) <= checkpoint.epoch]
