"""The names of a run's files, and how they are written: whole or not at all."""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from attrs import frozen

from imginav.errors import UserError

MANIFEST = "manifest.toml"
"""The resolved manifest in a run folder."""


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the place of `path` only when it is whole and on the disk.

    Raises UserError, with the old file untouched, where the disk refuses the new one.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another folder in [output]") from error
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free some space or change [output]") from error
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(text.encode())


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
        return self.root / "run.json"

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation.json"

    @property
    def metrics(self) -> Path:
        return self.root / f"{self.experiment}_metrics.csv"

    @property
    def best_checkpoint(self) -> Path:
        return self.root / f"{self.experiment}_checkpoint_best.pt"

    @property
    def latest_checkpoint(self) -> Path:
        return self.root / f"{self.experiment}_checkpoint_latest.pt"

    def numbered_checkpoint(self, epoch: int) -> Path:
        return self.root / f"{self.experiment}_checkpoint_epoch_{epoch:03d}.pt"

    def numbered_checkpoints(self) -> list[Path]:
        """The numbered checkpoints that lie here, oldest epoch first."""
        found = self.root.glob(f"{self.experiment}_checkpoint_epoch_*.pt")
        return sorted(found, key=lambda path: int(path.stem.rpartition("_")[2]))

    def samples(self, epoch: int) -> Path:
        return self.root / "samples" / f"epoch_{epoch:03d}.png"

    def shared_copy(self, path: Path) -> Path:
        """Where a copy of one of the run's files lies for the phase: its name says which experiment it is of."""
        inside = path.relative_to(self.root)
        own = inside.name if inside.name.startswith(self.experiment) else f"{self.experiment}_{inside.name}"
        return self.shared / inside.with_name(own)

    def share(self, path: Path) -> None:
        """Copy one of the run's files into the phase's shared folder."""
        with path.open("rb") as source, atomic_write(self.shared_copy(path)) as copy:
            shutil.copyfileobj(source, copy)

    def make(self) -> Path | None:
        """Make the folder, and return where that of an earlier run was moved to, if there was one."""
        moved = move_aside(self.root) if self.root.exists() else None
        try:
            if moved:
                self._remove_copies_of(moved)
            self.root.mkdir(parents=True)
            self.shared.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make {error.filename}: {error.strerror}; choose another folder in [output]"
            ) from error
        return moved

    def _remove_copies_of(self, moved: Path) -> None:
        """Remove what an earlier run has shared, or its pictures would mix with those of the next."""
        for path in moved.rglob("*"):
            copy = self.shared_copy(self.root / path.relative_to(moved))
            if path.is_file() and copy.is_file() and filecmp.cmp(path, copy, shallow=False):
                copy.unlink()


def move_aside(path: Path) -> Path:
    """Rename a file or folder, so that its name is free, and return its new place: `name.1`, or the next free one."""
    number = 1
    while (kept := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    try:
        return path.rename(kept)
    except OSError as error:
        raise UserError(f"cannot move the earlier {path} aside to {kept}: {error.strerror}") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
