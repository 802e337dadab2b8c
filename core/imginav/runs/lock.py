"""One process a run: a lock that a crash gives back, on this machine and over hosts that share a disk.

Two things tell whether who holds the lock is alive. The first is the system: a POSIX record lock ends with its process
however that ends, and NFS servers pass it on to other hosts, unless a disk is mounted without locks. The second is the
lock's file, which says which process of which machine holds it, with a number that this process raises every few
seconds. A holder on this machine is looked up among its processes; one on another machine, which nobody here can ask,
is watched for a while, and taken for gone when the number stands still. Clocks of two hosts are never compared.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from attrs import evolve, frozen

from imginav.errors import UserError
from imginav.files import write_error
from imginav.manifest.json_record import from_json, to_json
from imginav.processes.children import living_process

BEAT_SECONDS = 15.0
"""After which the number in a lock's file is raised."""

WATCHED_SECONDS = 60.0
"""For how long the number of a holder on another machine is watched before it is taken for gone."""

POLL_SECONDS = 1.0

SILENT_SECONDS = 300.0
"""Without a raised number after which a run on another machine is shown as cut off."""

DYING_SECONDS = 10.0
"""For how long a process that was killed may still have its record lock."""

READINGS = 3

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What disks say that know no record locks; the file alone has to do there."""

Log = Callable[[str], None]


@frozen(kw_only=True)
class Holder:
    """Who holds a lock, as its file says."""

    host: str
    machine: str  # which boot of which kernel with which processes: within it, process numbers mean something
    process: str  # its number, and on Linux when it started, since numbers are used again
    nonce: str  # of this one lock
    beat: int  # raised as long as it lives

    @property
    def shown(self) -> str:
        """What a person would look for."""
        return f"process {self.process.partition(' ')[0]} on {self.host}"

    def is_gone(self) -> bool | None:
        """Whether its process is gone; none: nobody can tell from here."""
        return (
            self.process != living_process(int(self.process.partition(" ")[0])) if self.machine == _machine() else None
        )


class RunLock:
    """The lock of a run folder, held as long as this object's `with` block runs."""

    def __init__(self, root: Path, lost: Callable[[str], None], log: Log = print) -> None:
        """Take the lock of the run folder `root`; raises UserError where another process holds it.

        Where another one takes the lock later, because this process stood still for long, `lost` is told.
        """
        self._path = lock_file(root)
        self._lost = lost
        if held := _HELD.get(self._path.absolute()):
            raise _in_use(self._path, held)
        self._made = _missing(self._path.parent)
        self._handle = _open_locked(self._path)
        try:
            if (holder := _read(self._handle)) is not None:
                _refuse_living(holder, self._handle, root, log)
            self._holder = Holder(
                host=socket.gethostname(),
                machine=_machine(),
                process=living_process(os.getpid()) or str(os.getpid()),
                nonce=uuid.uuid4().hex,
                beat=0,
            )
            _write(self._handle, self._holder)
        except OSError as error:
            os.close(self._handle)
            raise write_error(self._path, error) from error
        except BaseException:
            os.close(self._handle)
            raise
        _HELD[self._path.absolute()] = self._holder
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._released.set()
        self._heart.join()
        _HELD.pop(self._path.absolute(), None)
        # While it is locked: who opens the file later makes a new one, and who has it open finds it gone.
        if (now := _read(self._handle)) is not None and now.nonce == self._holder.nonce:
            self._path.unlink(missing_ok=True)
        os.close(self._handle)
        with suppress(OSError):  # what was made for the lock alone goes with it, where nothing else was put there
            for folder in self._made:
                folder.rmdir()

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            with suppress(OSError):  # a disk that is away for a while is no reason to stop
                now = _read(self._handle)
                if now is not None and now.nonce != self._holder.nonce:
                    self._lost(f"{now.shown} has taken over the run, because this process stood still; it leaves")
                    return
                self._holder = evolve(self._holder, beat=self._holder.beat + 1)
                _write(self._handle, self._holder)


_HELD: dict[Path, Holder] = {}
"""The locks of this process: to open and close the file of one of them would give its record lock back."""


def lock_file(root: Path) -> Path:
    """Return the file that stands for the lock of a run folder: beside it, since the folder may be moved aside."""
    return root.parent / f".{root.name}.lock"


def is_held(root: Path) -> bool:
    """Whether a run folder is locked by a process that lives, as far as can be told without waiting."""
    path = lock_file(root)
    if path.absolute() in _HELD:
        return True
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        holder = _read(handle)
        # Of another machine the clock has to do here; whoever wants the lock watches its number.
        silent = time.time() - os.fstat(handle).st_mtime > SILENT_SECONDS
    finally:
        os.close(handle)
    if holder is None:
        return False
    gone = holder.is_gone()
    return not (silent if gone is None else gone)


def _missing(folder: Path) -> list[Path]:
    """Return a folder and those above it that are not there, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _open_locked(path: Path) -> int:
    """Return the open file of a lock with its record lock; raises UserError where another process has that."""
    until = time.monotonic() + DYING_SECONDS
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"cannot make {error.filename}: {error.strerror}; choose another folder in [output]"
            ) from error
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                holder = _read(handle)
                os.close(handle)
                if holder and holder.is_gone() and time.monotonic() < until:
                    time.sleep(0.1)  # it was killed just now, and its last thread has not ended yet
                    continue
                raise _in_use(path, holder) from None
        with suppress(OSError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # its holder has just given it back, and removed the file


def _refuse_living(holder: Holder, handle: int, root: Path, log: Log) -> None:
    """Raise UserError where the holder that a lock's file names is alive; wait to find out, where it has to be."""
    gone = holder.is_gone()
    if gone is False:
        raise _in_use(lock_file(root), holder)
    if gone:
        return
    log(f"{root.name} was last written by {holder.shown}; watches for up to {WATCHED_SECONDS:.0f} s whether it lives")
    until = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        now = _read(handle)
        if now != holder:
            raise _in_use(lock_file(root), now or holder)
    log(f"{holder.shown} shows no sign of life: takes over from it")


def _in_use(path: Path, holder: Holder | None) -> UserError:
    name = path.name.removeprefix(".").removesuffix(".lock")
    who = holder.shown if holder else "another process"
    return UserError(f"{name} is being written by {who} ({path}); wait for it, or end it")


def _read(handle: int) -> Holder | None:
    """Return who holds a lock; none where its file is empty."""
    for _ in range(READINGS):
        content = os.pread(handle, 4096, 0)
        try:
            return from_json(content, Holder) if content else None
        except ValueError:
            time.sleep(0.1)  # it is being written
    return None


def _write(handle: int, holder: Holder) -> None:
    content = to_json(holder).encode()
    os.pwrite(handle, content, 0)
    os.ftruncate(handle, len(content))
    os.fsync(handle)


def _machine() -> str:
    """Return what process numbers are counted within: a boot of a kernel, and in containers a namespace of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()
