"""The names of a run's files, and how they are written: whole or not at all."""

from __future__ import annotations

import errno
import filecmp
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from imginav.errors import UserError

MANIFEST = "manifest.toml"
"""The resolved manifest in a run folder."""

RECORD, EVALUATION = "run.json", "evaluation.json"
"""What became of a run, and what the weights that it left are worth."""

PART = ".part"
"""With what the name of a file ends that is not whole yet."""


STALE_SECONDS = 3600
"""After which nobody writes to such a file any more; none takes longer than a full disk is waited for."""


DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

DISK_FULL_WAITS_SECONDS = (1, 4, 10, 15, 30)
"""After which a full disk is tried again: on a shared one, others' files come and go."""


def write_bytes(path: Path, content: bytes | memoryview, *, keep: Path | None = None, patient: bool = True) -> None:
    """Write a file that takes the place of `path` only when it is whole and on the disk.

    The file that was there becomes `keep`, where that is given. A full disk is tried again for a minute, if `patient`.
    Raises UserError, with the old file untouched, where the disk refuses the new one.
    """
    for wait in (*(DISK_FULL_WAITS_SECONDS if patient else ()), None):
        try:
            _write(path, content, keep)
        except OSError as error:
            reason = f"cannot write {path}: {error.strerror}"
            if error.errno not in DISK_FULL:
                raise UserError(
                    f"{reason}; choose another folder, in [output] or by the option that names it"
                ) from error
            if wait is None:
                raise UserError(f"{reason}; free some space, and give the same command again") from error
            print(f"imginav: {reason}; tries again in {wait} s", file=sys.stderr, flush=True)
            time.sleep(wait)
        else:
            return


def _write(path: Path, content: bytes | memoryview, keep: Path | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.chmod(0o666 & ~umask())
        if keep is not None and path.exists():
            path.replace(keep)
        beside.replace(path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, patient: bool = True) -> None:
    """Write a text file in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode(), patient=patient)


@frozen
class RunFolder:
    """Where one experiment leaves its files, and the folder that it shares with its phase."""

    root: Path  # this experiment's own
    shared: Path  # the phase's
    experiment: str  # the first part of the file names

    @property
    def manifest(self) -> Path:
        return self.root / MANIFEST

    @property
    def record(self) -> Path:
        return self.root / RECORD

    @property
    def evaluation(self) -> Path:
        return self.root / EVALUATION

    @property
    def metrics(self) -> Path:
        return self.root / f"{self.experiment}_metrics.csv"

    @property
    def best_checkpoint(self) -> Path:
        return self.root / f"{self.experiment}_checkpoint_best.pt"

    @property
    def latest_checkpoint(self) -> Path:
        return self.root / f"{self.experiment}_checkpoint_latest.pt"

    @property
    def previous_checkpoint(self) -> Path:
        """The latest checkpoint before the latest, which a damaged latest falls back to."""
        return self.root / f"{self.experiment}_checkpoint_previous.pt"

    def numbered_checkpoint(self, epoch: int) -> Path:
        return self.root / f"{self.experiment}_checkpoint_epoch_{epoch:03d}.pt"

    def numbered_checkpoints(self) -> list[Path]:
        """The numbered checkpoints that lie here, oldest epoch first."""
        start = f"{self.experiment}_checkpoint_epoch_"
        numbers = {path: path.stem.removeprefix(start) for path in self.root.glob(f"{start}*.pt")}
        # A copy that somebody has made under a longer name is none of them.
        return sorted((path for path, number in numbers.items() if number.isdecimal()), key=lambda p: int(numbers[p]))

    def samples(self, epoch: int) -> Path:
        return self.root / "samples" / f"epoch_{epoch:03d}.png"

    def shared_copy(self, path: Path) -> Path:
        """Where a copy of one of the run's files lies for the phase: its name says which experiment it is of."""
        inside = path.relative_to(self.root)
        own = inside.name if inside.name.startswith(self.experiment) else f"{self.experiment}_{inside.name}"
        return self.shared / inside.with_name(own)

    def share(self, path: Path) -> None:
        """Copy one of the run's files into the phase's shared folder."""
        write_bytes(self.shared_copy(path), path.read_bytes())

    def begin(self) -> Path | None:
        """Make the folder for a run from its start; return where that of an earlier run was moved to, if to be kept."""
        moved = move_aside(self.root) if self._holds_something() else None
        if moved:
            self._remove_copies_of(moved)
        self.reopen()
        return moved

    def reopen(self) -> None:
        """Make what is missing of the folders, and remove what a run that was killed has left half written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.shared.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make {error.filename}: {error.strerror}; choose another folder in [output]"
            ) from error
        # An experiment whose name begins like this one's may be writing just now.
        others = tuple(f".{path.name}_" for path in self.root.parent.glob(f"{self.experiment}?*") if path.is_dir())
        shared = (part for part in self.shared.rglob(f".{self.experiment}*{PART}") if not part.name.startswith(others))
        for part in (*self.root.rglob(f".*{PART}"), *shared):
            part.unlink(missing_ok=True)

    def _holds_something(self) -> bool:
        """Whether anything but the first lines of a run that has not come far lies here."""
        if not self.root.is_dir():
            return self.root.exists()
        return any(p.name not in (MANIFEST, self.record.name) and p.suffix != PART for p in self.root.iterdir())

    def _remove_copies_of(self, moved: Path) -> None:
        """Remove what an earlier run has shared, or its pictures would mix with those of the next."""
        for path in moved.rglob("*"):
            copy = self.shared_copy(self.root / path.relative_to(moved))
            if path.is_file() and copy.is_file() and filecmp.cmp(path, copy, shallow=False):
                copy.unlink()


def remove_stale_parts(folder: Path) -> None:
    """Remove what commands that were killed have left half written in a folder that several may write to just now."""
    for part in folder.glob(f".*{PART}"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > STALE_SECONDS:
                part.unlink()


def move_aside(path: Path) -> Path:
    """Rename a file or folder, so that its name is free, and return its new place: `name.1`, or the next free one."""
    number = 1
    while (kept := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    try:
        path.rename(kept)
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot move the earlier {path} aside to {kept}: {error.strerror}") from error
    return kept


def umask() -> int:
    """Return what permissions this process takes from new files; what a temporary place has, it has to be given."""
    current = os.umask(0)
    os.umask(current)
    return current


def sync_folder(folder: Path) -> None:
    """Bring to the disk which files a folder has; that is not a part of what they hold."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
