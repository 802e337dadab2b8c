"""Whether a run goes on, and from where: the newest checkpoint that is whole, and fits what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import tomli
from attrs import frozen

from imginav.errors import UserError
from imginav.files import move_aside, write_bytes
from imginav.manifest.config_layers import leaves
from imginav.manifest.resolution import RESOLVED
from imginav.manifest.resolved import LINEAGE, ResolvedManifest
from imginav.manifest.tables import FAULT_POLICY_KEYS
from imginav.plugin.checkpoint import Checkpoint, load_checkpoint
from imginav.runs.records import RunRecord
from imginav.runs.run_folder import RunFolder
from imginav.training.trainer import Trainer

Log = Callable[[str], None]

Resume: TypeAlias = Literal["auto", "never", "extend"] | Path
"""auto: resume what is not finished; never: train from scratch; extend: resume what is finished as well; a path: resume
from this checkpoint."""

MAY_CHANGE = ("phase", "callbacks", "evaluation", "machine", "output", "train.epochs", *FAULT_POLICY_KEYS)
"""What may differ, by dotted key, where a run goes on: neither the network nor what an epoch is made of."""

MAY_CHANGE_ON_REQUEST = ("losses",)
"""What may differ as well where a person has named the checkpoint: its weights and its optimizer still fit."""

NOT_NOTED = ("phase", "evaluation", "machine", "output", *FAULT_POLICY_KEYS)
"""Of what may differ, what changes no result."""

REMEDY = "restore it, or train anew with --resume never, which keeps the earlier run aside"


@frozen
class Found:
    """A checkpoint that a run can go on from."""

    path: Path
    checkpoint: Checkpoint
    training: dict[str, Any]


def resume_run(
    trainer: Trainer, folder: RunFolder, resolved: ResolvedManifest, earlier: RunRecord | None, resume: Resume, log: Log
) -> bool:
    """Make the run's folder ready and put the trainer where it goes on; return whether it does.

    Where a run starts anew, or goes on from a checkpoint that a person names, what lies in its folder is moved aside.
    Raises UserError where values or layouts are no longer those that the checkpoint was made with.
    """
    found = _named(resume) if isinstance(resume, Path) else None
    if resume == "extend" or (resume == "auto" and not (earlier and earlier.state == "finished")):
        found = _newest(folder, log)
    if found is None:
        if resume == "extend":
            raise UserError(f"--extend: {folder.root} holds no checkpoint to continue from; leave --extend out")
        if earlier and resume == "auto":
            _hint_at_extending(earlier, trainer, folder, log)
        _log_moved(folder.begin(), log)
        return False
    with _fitting(found.path):
        changed = _refuse_differences(found, trainer, resolved, folder.experiment, by_request=isinstance(resume, Path))
        trainer.model.load_state_dict(found.checkpoint.model)
        trainer.load_state_dict(found.training)
    if resume == "extend" or any(_within(key, ("callbacks",)) for key in changed):
        trainer.stop_reason = ""  # what had stopped it is another one now, or gone, or is overruled
    if isinstance(resume, Path):
        own = resume.resolve().parent == folder.root.resolve()
        moved = folder.begin()
        _log_moved(moved, log)
        _carry_best(moved if own and moved else resume.parent, folder, trainer, log)
    else:
        folder.reopen()
        if found.path != folder.latest_checkpoint and folder.latest_checkpoint.exists():
            # It is damaged, and with the next save would take the place of the previous one, which is whole.
            move_aside(folder.latest_checkpoint)
    of_all = f" of {trainer.epochs}" if trainer.epoch <= trainer.epochs else ""
    place, trained = f"after epoch {trainer.epoch}{of_all}", f"{trainer.epoch} epochs"
    if trainer.totals:
        place = f"in epoch {trainer.epoch}{of_all}, after {trainer.totals.batches} of its batches"
        trained = f"{trainer.epoch - 1} epochs and a part of the next"
    state = f"goes on from {found.path}"
    if earlier and resume != "never" and not isinstance(resume, Path):
        state = f"{'' if earlier.state == 'failed' else 'was '}{earlier.state}: it goes on"
    log(f"{folder.experiment} {state} {place}")
    if not of_all:
        log(
            f"{folder.experiment} has trained {trained} already, more than train.epochs = {trainer.epochs}, and stops "
            "there: nothing more is trained, and the result is that of its weights"
        )
    if resume == "extend" and trainer.epoch <= trainer.epochs:
        rate = trainer.optimization.learning_rate
        log(f"the learning rate continues at {rate:.3g}, where a schedule of {trainer.epochs} epochs has it by now")
    if changed:
        note = f"went on {place} with other values: {_shown(changed)}"
        trainer.notes.append(note)
        log(note)
    return True


def _hint_at_extending(earlier: RunRecord, trainer: Trainer, folder: RunFolder, log: Log) -> None:
    """Say how to extend a finished run that is trained from scratch for more epochs than it had."""
    if earlier.state == "finished" and trainer.epochs > earlier.epochs and folder.latest_checkpoint.is_file():
        more = trainer.epochs - earlier.epoch
        log(
            f"{folder.experiment} was finished after epoch {earlier.epoch}, and is trained from scratch for "
            f"{trainer.epochs} epochs; --extend {more} in place of train.epochs continues it"
        )


def _named(path: Path) -> Found:
    checkpoint = load_checkpoint(path)
    if checkpoint.training is None:
        raise UserError(
            f"--resume {path}: holds weights, and nothing else that a run needs to go on; take the latest or a "
            "numbered checkpoint"
        )
    return Found(path, checkpoint, checkpoint.training)


def _newest(folder: RunFolder, log: Log) -> Found | None:
    """Return the newest whole checkpoint of a run folder, and say which newer ones are damaged."""
    paths = [folder.latest_checkpoint, folder.previous_checkpoint, *reversed(folder.numbered_checkpoints())]
    there = [path for path in paths if path.is_file()]
    damaged = []
    for path in there:
        try:
            found = _named(path)
        except UserError as error:
            damaged.append(str(error))
        else:
            for fault in damaged:
                log(f"warning: {fault.partition('; take')[0]}; falls back to {path}")
            return found
    if damaged:
        log(f"warning: starts anew, since none of its checkpoints is whole: {'; '.join(damaged)}")
    return None


def _refuse_differences(
    found: Found, trainer: Trainer, resolved: ResolvedManifest, name: str, *, by_request: bool
) -> dict[str, tuple[Any, Any]]:
    """Raise UserError for differences between then and now that are not allowed; return those that change a result.

    They are pairs of what was and what is, by dotted key.
    """
    manifest = tomli.loads(found.checkpoint.manifest)
    old = dict(leaves({key: value for key, value in manifest.items() if key not in (LINEAGE, RESOLVED)}))
    new = dict(leaves(resolved.tables))
    changed = {".".join(keys): (old.get(keys), new.get(keys)) for keys in old | new if old.get(keys) != new.get(keys)}
    places = resolved.places
    allowed = (*MAY_CHANGE, *places, *(MAY_CHANGE_ON_REQUEST if by_request else ()))
    refused = {key: values for key, values in changed.items() if not _within(key, allowed)}
    if refused:
        hint = "" if by_request else _hint(refused, found.path)
        raise UserError(f"{name} cannot go on from {found.path} with other values: {_shown(refused)}; {REMEDY}{hint}")
    now = trainer.data.fingerprint
    then = found.training["data"]
    if then["layouts"] != now.layouts.sha256 or then["split"] != now.split.sha256:
        raise UserError(
            f"{name} cannot go on from {found.path}: its layouts were others ({then['description']}; now "
            f"{now.layouts.description}), or split otherwise; {REMEDY}"
        )
    quiet = (
        *NOT_NOTED,
        *places,
        *(f"callbacks.{name}" for name, c in resolved.manifest.callbacks.items() if c.observer),
    )
    return {key: values for key, values in changed.items() if not _within(key, quiet)}


def _hint(refused: dict[str, tuple[Any, Any]], path: Path) -> str:
    """Return the way to go on with what may change on request, where nothing else has changed."""
    if all(_within(key, MAY_CHANGE_ON_REQUEST) for key in refused):
        return f", or go on with the new values by --resume {path}"
    return ""


def _within(key: str, tables: tuple[str, ...]) -> bool:
    return any(key == table or key.startswith(f"{table}.") for table in tables)


def _shown(changed: dict[str, tuple[Any, Any]]) -> str:
    nothing = "left out"
    return ", ".join(
        f"{key} = {nothing if now is None else repr(now)} (was {nothing if then is None else repr(then)})"
        for key, (then, now) in sorted(changed.items())
    )


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Turn what is raised for a state that does not fit into UserError."""
    try:
        yield
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{path}: does not fit what its manifest now builds ({type(error).__name__}: {reason}); a plugin may "
            "have changed: restore it, or train anew with --resume never"
        ) from error


def _carry_best(source: Path, folder: RunFolder, trainer: Trainer, log: Log) -> None:
    """Copy the best checkpoint from where the run goes on from, if it is the best that it knows there."""
    for path in source.glob("*_checkpoint_best.pt"):
        try:
            there = load_checkpoint(path)
        except UserError as error:
            log(f"warning: goes on without the best checkpoint so far: {error}")
            continue
        # A folder may hold those of several runs.
        if (there.epoch, there.metrics.get(trainer.best.metric)) == (trainer.best.epoch, trainer.best.value):
            write_bytes(folder.best_checkpoint, path.read_bytes())


def _log_moved(moved: Path | None, log: Log) -> None:
    if moved:
        log(f"the earlier run is kept in {moved}")
