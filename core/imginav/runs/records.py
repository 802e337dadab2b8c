"""`run.json`: what became of a run, for the phase that it belongs to and for people at another terminal."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from attrs import evolve, frozen

from imginav.errors import UserError
from imginav.manifest.fingerprints import DataFingerprint
from imginav.manifest.json_record import MissingRecordError, load_record_of, save_record
from imginav.processes.stop_request import Interrupted, Superseded
from imginav.runs.lock import is_held

JOB = "IMGINAV_JOB"
"""The environment variable that says which job of a cluster a process is in."""

State = Literal["running", "finished", "failed", "interrupted", "cut off"]


@frozen(kw_only=True)
class RunRecord:
    """The state of a run at its last sign of life."""

    experiment: str
    state: State  # cut off: it says that it runs, but its process is gone
    manifest_sha256: str  # of all values that its result depends on
    data: DataFingerprint
    epoch: int  # the last that is finished
    epochs: int  # at most
    seconds: float  # of all its attempts together
    started: str  # UTC, ISO 8601; the first attempt
    updated: str
    code_version: str
    host: str
    process: int  # its number there
    error: str = ""  # why it failed
    batch: int = 0  # of the epoch that runs, the last that is done; 0 between two epochs
    batches: int = 0  # of that epoch
    job: str = ""  # the last that it ran in: kind of cluster, id, and of an array the element's number

    def save(self, path: Path, *, patient: bool = True) -> None:
        """Write the file, whole or not at all; see `write_bytes`."""
        save_record(path, self, patient=patient)


def load_record(path: Path, *, locked: bool = False) -> RunRecord | None:
    """Return the record of a run, or None where there is none; raises UserError for a damaged one.

    With `locked`, this process has the run's lock, so that no other can be running it.
    """
    try:
        record = load_record_of(path, RunRecord, "the record of a run", "move its folder away")
    except MissingRecordError:  # that a folder cannot be made is said where it is made
        return None
    gone = record.state == "running" and (locked or not is_held(path.parent))
    return evolve(record, state="cut off") if gone else record


class Recorder:
    """Keeps the record of the run that this process trains."""

    def __init__(self, path: Path, record: RunRecord) -> None:
        self._path = path
        self._before = record.seconds
        self._start = datetime.now(UTC)
        self._record = record

    @classmethod
    def start(
        cls,
        path: Path,
        experiment: str,
        manifest_sha256: str,
        data: DataFingerprint,
        epochs: int,
        earlier: RunRecord | None,
    ) -> Recorder:
        """Begin a record, or that of another attempt where `earlier` is the one of the attempt before."""
        recorder = cls(
            path,
            RunRecord(
                experiment=experiment,
                state="running",
                manifest_sha256=manifest_sha256,
                data=data,
                epoch=earlier.epoch if earlier else 0,
                epochs=epochs,
                seconds=earlier.seconds if earlier else 0.0,
                started=earlier.started if earlier else utc_now(),
                updated=utc_now(),
                code_version=code_version(),
                host=socket.gethostname(),
                process=os.getpid(),
                job=os.environ.get(JOB, ""),
            ),
        )
        recorder.write("running")
        return recorder

    def write(
        self,
        state: State,
        *,
        epoch: int | None = None,
        within: tuple[int, int] = (0, 0),
        error: str = "",
        patient: bool = True,
    ) -> None:
        """Write what has become of the run.

        `within` is how many batches of the epoch that runs are done, and how many it has; `patient` as `write_bytes`
        has it.
        """
        passed = (datetime.now(UTC) - self._start).total_seconds()
        self._record = evolve(
            self._record,
            state=state,
            epoch=self._record.epoch if epoch is None else epoch,
            seconds=round(self._before + passed, 1),
            updated=utc_now(),
            error=error,
            batch=within[0],
            batches=within[1],
        )
        self._record.save(self._path, patient=patient)

    @contextmanager
    def until_finished(self) -> Iterator[None]:
        """Record how what happens inside ends."""
        try:
            yield
        except Superseded:  # the record is another process's by now
            raise
        except BaseException as error:
            state: State = "interrupted" if isinstance(error, (KeyboardInterrupt, Interrupted)) else "failed"
            with suppress(UserError):  # on a full disk, what went wrong first is what counts
                self.write(state, error=str(error) or type(error).__name__, patient=False)
            raise
        self.write("finished")


def utc_now() -> str:
    """Return the time as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def code_version() -> str:
    """Return imginav's version, and of a checkout the commit, with a + where files differ from it."""
    version = importlib.metadata.version("imginav")
    # An installed copy that lies within the checkout of something else is not of that commit.
    if not _git("ls-files", "--error-unmatch", __file__):
        return version
    return f"{version} ({_git('describe', '--always', '--dirty=+', '--abbrev=12', '--exclude=*')})"


def _git(*arguments: str) -> str:
    """Return what git prints about the folder of this file, or nothing where there is no git or no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603  # as above
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
