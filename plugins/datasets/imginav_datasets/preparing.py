"""Layouts are made ready once: by one process at a time, with what is missing told first, into a store for all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from imginav import UserError
from imginav.plugin import DISK_FULL, block_signals, end_with_parent, ignore_signals_in_worker, show_progress
from imginav_datasets.layout_store import CLASSES, VERSION, LayoutStore, SegmentWriter, Stored, bytes_of, clean

T = TypeVar("T")
R = TypeVar("R")

Log = Callable[[str], None]

Make = Callable[[Sequence[int]], Iterator[tuple[bytes, Stored]]]
"""Makes layouts by their indices: gives those that can be made, each with the digest of what it was made from."""

THREADS = 16
"""In which files are read: on a shared disk each waits for the server, not for the processor."""

AT_ONCE = 1024
"""Items that are handed to threads or processes at a time: of a million, all at once would take gigabytes."""

MOST_PROCESSES = 32

CHUNK = 8
"""Items that a thread or process takes at a time."""

LOCK, ABOUT = ".lock", "about.txt"

ABOUT_TEXT = """Layouts that imginav has made ready to be read fast. Nothing here is needed:
what is deleted while no run is going on is made anew when it is needed again.
"""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What disks say that know no locks: two processes may then make the same layouts, each its own copy."""

MARGIN_BYTES = 2**26
"""Of a disk that are left free."""


@frozen
class Prepared:
    """The layouts of a data set in a store, by index."""

    store: LayoutStore
    places: NDArray[np.int64]  # -1 for a layout that is not there

    def read(self, index: int) -> Stored | None:
        """Return a layout, or none where it is not there, or damaged."""
        place = int(self.places[index])
        return None if place < 0 else self.store.read(place)


def prepare(
    cache: Path,
    origin: Sequence[object],
    side: int,
    digests: NDArray[np.bytes_],
    make: Make,
    log: Log,
    *,
    kind: int = CLASSES,
) -> Prepared:
    """Make those layouts of `side` pixels that a cache has not got yet, and return all of them.

    `digests` are of what each is made from, by index, and `origin` is what the pixels depend on beside: files, which
    stand for what they say, and values. By their `kind`, which may be CLASSES where colours are thought to be exact,
    the room on the disk is looked for. Another process that makes such layouts is waited for. Raises UserError where
    the disk refuses them.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A script without this line is run once more by each process that it starts, which would wait for the first.
        raise UserError("layouts are prepared in processes: put what your script does under if __name__ == '__main__'")
    folder = cache / f"layouts-{side}px-{_key(VERSION, side, *origin)}"
    with _disk_faults(cache):
        store = LayoutStore(folder, side)
        if len(_missing(store, digests)):
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder, log) as alone:
                if alone:
                    clean(folder, side)
                store.load()
                if len(missing := _missing(store, digests)):
                    needed = bytes_of(len(missing), side, kind)
                    _refuse_small_disk(folder, needed)
                    (folder / ABOUT).write_text(ABOUT_TEXT)
                    log(f"prepares {len(missing):,} layouts ({needed / 1e9:.2g} GB), once, in {folder}")
                    _make(folder, side, missing, make)
            store.load()
        return Prepared(store, store.find(digests))


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Return what a function makes of each item, in their order."""

    def several(chunk: Sequence[T]) -> list[R]:
        return [function(item) for item in chunk]

    with _ended_at_once(ThreadPoolExecutor(THREADS)) as pool:
        for start in range(0, len(items), AT_ONCE):
            part = items[start : start + AT_ONCE]
            for results in pool.map(several, [part[i : i + CHUNK] for i in range(0, len(part), CHUNK)]):
                yield from results


def in_processes(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Return what a function makes of each item, in their order; it computes on all cores.

    Where a process is ended from outside, or none can be started, what is left is computed here.
    """
    cores = len(os.sched_getaffinity(0))
    # Spawned: what torch's threads hold just now, a forked process would wait for.
    context = multiprocessing.get_context("spawn")
    done = 0
    try:
        with _ended_at_once(ProcessPoolExecutor(min(cores, MOST_PROCESSES), context, _begin, (os.getpid(),))) as pool:
            for start in range(0, len(items), AT_ONCE):
                with block_signals():
                    results = pool.map(function, items[start : start + AT_ONCE], chunksize=CHUNK)
                for result in results:
                    done += 1
                    yield result
    except BrokenProcessPool:
        yield from map(function, items[done:])


@contextmanager
def _ended_at_once(pool: Executor) -> Iterator[Executor]:
    """End a pool with what it is at, where a run is asked to leave; by itself, it would first do all that it has."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """Let a process leave signals to the one that started it, and end with it however that ends."""
    ignore_signals_in_worker()
    end_with_parent(parent, signal.SIGKILL)


def _key(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def _missing(store: LayoutStore, digests: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Return the indices of layouts that a store has not got, of those with one digest the first."""
    missing = np.flatnonzero((store.find(digests) < 0) & (digests != b""))
    _, first = np.unique(digests[missing], return_index=True)
    return missing[np.sort(first)]


def _make(folder: Path, side: int, missing: NDArray[np.int64], make: Make) -> None:
    indices: list[int] = missing.tolist()
    made = make(indices)
    with SegmentWriter(folder, side) as segment:
        for digest, layout in show_progress(made, "preparing layouts", len(indices)):
            segment.add(digest, layout)


@contextmanager
def _locked(folder: Path, log: Log) -> Iterator[bool]:
    """Hold the lock of a store; whether it could be had: not all disks know locks. The system gives it back."""
    with closing((folder / LOCK).open("wb")) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"waits for another process, which prepares layouts in {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            yield False
            return
        yield True


def _refuse_small_disk(folder: Path, needed: int) -> None:
    if (free := shutil.disk_usage(folder).free) < needed + MARGIN_BYTES:
        raise UserError(
            f"machine.cache = {str(folder.parent)!r}: has {_gigabytes(free)} free, and layouts ready to be read take "
            f"{_gigabytes(needed)}; {_REMEDY}"
        )


@contextmanager
def _disk_faults(root: Path) -> Iterator[None]:
    """Turn what a disk refuses into UserError."""
    try:
        yield
    except OSError as error:
        full = " before all layouts were ready" if error.errno in DISK_FULL else ""
        raise UserError(f"machine.cache = {str(root)!r}: cannot be used: {error.strerror}{full}; {_REMEDY}") from error


_REMEDY = 'name a folder elsewhere, machine.cache = "/another/folder", or keep nothing, machine.cache = false'


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.3g} GB"
