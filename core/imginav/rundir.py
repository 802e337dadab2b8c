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
        return self.root / "manifest.toml"

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

    def share(self, path: Path) -> None:
        """Copy one of the run's files to the same place in the phase's shared folder."""
        with path.open("rb") as source, atomic_write(self.shared / path.relative_to(self.root)) as copy:
            shutil.copyfileobj(source, copy)


def open_run_folder(experiments: Path, shared: Path, experiment: str, group: str) -> tuple[RunFolder, Path | None]:
    """Return an empty run folder, and where the folder of an earlier run was moved to, if there was one."""
    root = experiments / experiment
    moved = _move_aside(root) if root.exists() else None
    try:
        if moved:
            _remove_copies(moved, shared / group)
        root.mkdir(parents=True)
        (shared / group).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {error.filename}: {error.strerror}; choose another folder in [output]") from error
    return RunFolder(root, shared / group, experiment), moved


def _move_aside(root: Path) -> Path:
    number = 1
    while (kept := root.with_name(f"{root.name}.{number}")).exists():
        number += 1
    try:
        return root.rename(kept)
    except OSError as error:
        raise UserError(f"cannot move {root} of an earlier run aside to {kept}: {error.strerror}") from error


def _remove_copies(root: Path, shared: Path) -> None:
    """Remove from a phase's folder what an earlier run has shared, or its pictures would mix with those of the next."""
    for path in root.rglob("*"):
        copy = shared / path.relative_to(root)
        if path.is_file() and copy.is_file() and filecmp.cmp(path, copy, shallow=False):
            copy.unlink()


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
