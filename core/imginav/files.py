"""Files that are whole or absent: written beside, flushed, renamed."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from imginav.errors import UserError

PART = ".part"
"""With what the name of a file ends that is not whole yet."""

STALE_SECONDS = 3600
"""After which nobody writes to such a file any more; none takes longer than a full disk is waited for."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""The error numbers of a full disk and of an exhausted quota."""

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
            if error.errno not in DISK_FULL or wait is None:
                raise write_error(path, error) from error
            reason = f"cannot write {path}: {error.strerror}"
            print(f"imginav: {reason}; tries again in {wait} s", file=sys.stderr, flush=True)
            time.sleep(wait)
        else:
            return


def write_error(path: Path, error: OSError) -> UserError:
    """Return what to tell a user whose file cannot be written; on a full disk, the remedy is to free space."""
    remedy = "choose another folder, in [output] or by the option that names it"
    if error.errno in DISK_FULL:
        remedy = "free some space, and give the same command again"
    return UserError(f"cannot write {path}: {error.strerror}; {remedy}")


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
