"""The weights of a run: commands take its name or its folder in place of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from imginav.errors import UserError, did_you_mean
from imginav.manifest.reading import read_toml
from imginav.manifest.resolution import RESOLVED
from imginav.manifest.site import SITE_FILE, experiments_folder
from imginav.plugin.checkpoint import load_checkpoint
from imginav.runs.evaluation_result import EvaluationResult, load_evaluation
from imginav.runs.records import load_record
from imginav.runs.run_folder import EVALUATION, MANIFEST, RECORD

Log = Callable[[str], None]

BEST, LATEST = "_checkpoint_best.pt", "_checkpoint_latest.pt"
"""Suffixes of the checkpoints of a run, in the order in which they are preferred."""

SCALES = ("full", "trial")
"""Scales of a run, the preferred one first; any other counts as smaller than these."""

MOST_NAMED = 8
"""Runs that a message names."""


def weights_named(given: str | Path | None, site: Path | None = None, log: Log = print) -> Path:
    """Return the checkpoint that a path or the name of a run stands for; None is that of `newest_weights`.

    A run, by its folder or by its name in the experiments folder of the site file, stands for the weights that its
    evaluation is of. Any other path that exists is returned as it is, and so is one that ends in .pt or leads through
    a folder. Raises UserError for a name that is neither a file nor a run, and for a run without a checkpoint.
    """
    if given is None:
        return newest_weights(experiments_folder(site or SITE_FILE), log)
    path = Path(given)
    if (path.exists() and not is_run(path)) or path.suffix == ".pt":
        return path
    if not path.exists() and path.name != str(given):
        return path
    return weights_of_run(run_named(path, site), log)


def run_named(given: str | Path, site: Path | None = None) -> Path:
    """Return the folder of a run, given by its folder or by its name in the experiments folder of the site file.

    Raises UserError if there is no such run.
    """
    path, experiments = Path(given), experiments_folder(site or SITE_FILE)
    found = next((place for place in (path, experiments / path) if is_run(place)), None)
    if found is not None:
        return found
    names = [folder.name for folder in run_folders(experiments)]
    there = f"; runs in {experiments}: {', '.join(names[:MOST_NAMED])}" if names else "; there is no run in it yet"
    raise UserError(
        f"{given}: is neither a file or folder here nor a run in {experiments}{did_you_mean(path.name, names)}{there}"
    )


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, finished or not."""
    return (folder / RECORD).is_file() or bool(_checkpoints(folder))


def run_folders(experiments: Path) -> list[Path]:
    """Return the folders of all runs, by name, without those that a later run has moved aside."""
    return sorted(path for path in experiments.glob("*") if is_run(path) and not _is_moved_aside(path))


def weights_of_run(folder: Path, log: Log = print) -> Path:
    """Return the checkpoint of the weights that a run leaves: those that its evaluation is of, usually the best ones.

    Of a run that is not evaluated yet, it is the best checkpoint so far, or the latest if there is no best one. Says
    which one it takes. Raises UserError if the run has no checkpoint.
    """
    found = _checkpoints(folder)
    if not found:
        raise UserError(
            f"{folder}: the run has no checkpoint yet; let it finish its first epoch, and check that [callbacks] has "
            "checkpoint = {}"
        )
    evaluation = _evaluation_of(folder)
    if evaluation is None:
        log(f"note: {folder} is not evaluated yet, so this is its {_name_of(found[0])} checkpoint so far")
        chosen = found[0]
    else:
        chosen = next((path for path in found if _holds_epoch(path, evaluation.weights_epoch, evaluation)), found[0])
        if not _holds_epoch(chosen, evaluation.weights_epoch, evaluation):
            log(f"note: no checkpoint in {folder} is of epoch {evaluation.weights_epoch}, which was evaluated")
    log(f"with {chosen}")
    return chosen


def newest_weights(experiments: Path, log: Log = print) -> Path:
    """Return the checkpoint of the newest finished run, where no model is named; says which one it is.

    Runs at full scale come before trials, however old they are. Runs that are not finished, and those that a later run
    has moved aside, are not taken. Raises UserError if there is none.
    """
    runs = run_folders(experiments)
    finished = [run for run in map(_finished_run, runs) if run is not None]
    if not finished:
        names = ", ".join(folder.name for folder in runs[:MOST_NAMED])
        there = f" ({names}: not finished, so not taken by default)" if names else ""
        raise UserError(
            f"no trained autoencoder lies in {experiments}{there}; name a run, a checkpoint (.pt) or an export with "
            "--model"
        )
    newest = min(finished, key=lambda run: (run.scale, -run.ended))
    return weights_of_run(newest.folder, log)


@frozen
class FinishedRun:
    """A run that may be taken where none is named."""

    folder: Path
    scale: int  # its place in SCALES
    ended: float  # when its evaluation was written, in seconds since the epoch


def _finished_run(folder: Path) -> FinishedRun | None:
    """Return a run that is finished and has a checkpoint, or None."""
    try:
        record, evaluation = load_record(folder / RECORD), load_evaluation(folder / EVALUATION)
    except UserError:
        return None
    if record is None or record.state != "finished" or not _checkpoints(folder):
        return None
    scale = _scale_of(folder) or ("trial" if evaluation.trial else "full")
    place = SCALES.index(scale) if scale in SCALES else len(SCALES)
    return FinishedRun(folder, place, (folder / EVALUATION).stat().st_mtime)


def _scale_of(folder: Path) -> str:
    """Return the scale that the manifest of a run names, or nothing if it cannot be read."""
    try:
        resolution = read_toml(folder / MANIFEST).get(RESOLVED)
    except UserError:
        return ""
    return str(resolution.get("scale", "")) if isinstance(resolution, dict) else ""


def _checkpoints(folder: Path) -> list[Path]:
    """Return the best and the latest checkpoint of a run, as far as they are there."""
    return [path for suffix in (BEST, LATEST) for path in sorted(folder.glob(f"*{suffix}"))]


def _name_of(checkpoint: Path) -> str:
    return "best" if checkpoint.name.endswith(BEST) else "latest"


def _evaluation_of(folder: Path) -> EvaluationResult | None:
    try:
        return load_evaluation(folder / EVALUATION)
    except UserError:
        return None


def _holds_epoch(checkpoint: Path, epoch: int, evaluation: EvaluationResult) -> bool:
    """Whether a checkpoint holds the weights of an epoch; one that cannot be read is left to whoever loads it."""
    if _name_of(checkpoint) == "best" and evaluation.best_epoch == epoch:
        return True
    try:
        return load_checkpoint(checkpoint).epoch == epoch
    except UserError:
        return False


def _is_moved_aside(folder: Path) -> bool:
    """Whether a folder is what `move_aside` makes of that of an earlier run: own.1 beside own."""
    name, dot, number = folder.name.rpartition(".")
    return bool(dot) and number.isdecimal() and folder.with_name(name).exists()
