"""Folders that are whole or absent: written beside their place, and moved there."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imginav.errors import UserError
from imginav.files import PART, STALE_SECONDS, umask


def is_taken(to: Path) -> bool:
    """Whether something is at a place already, other than an empty folder."""
    return to.exists() and not (to.is_dir() and not any(to.iterdir()))


@contextmanager
def folder_beside(to: Path, option: str = "--to") -> Iterator[Path]:
    """Make a folder beside a place, which is gone after the block unless it was moved there.

    Raises UserError, which names the `option` by which the place was given, where no folder can be made.
    """
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        for left in to.parent.glob(f".{to.name}.*{PART}"):  # by a command that was killed
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{to.name}.", suffix=PART, dir=to.parent))
    except OSError as error:
        raise UserError(f"{option} {to}: cannot be made: {error.strerror}; name another folder") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(folder: Path, to: Path) -> None:
    """Move a folder to its place, where nothing or an empty folder is."""
    folder.chmod(0o777 & ~umask())
    os.replace(folder, to)  # noqa: PTH105  # an empty folder may be there
