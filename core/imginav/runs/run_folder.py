"""The names of a run's files, and how they are written: whole or not at all."""

from __future__ import annotations

import filecmp
from pathlib import Path

from attrs import frozen

from imginav.errors import UserError
from imginav.files import PART, move_aside, write_bytes

MANIFEST = "manifest.toml"
"""The resolved manifest in a run folder."""

RECORD = "run.json"
"""The state of a run."""

EVALUATION = "evaluation.json"
"""The evaluation of the weights that a run leaves."""

PROBES = "probes"
"""The folder with the results and pictures of a run's probes, one folder for each."""

REPORT = "report.html"
"""The page of a run, and in the shared folder that of a phase."""


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
    def steps(self) -> Path:
        return self.root / f"{self.experiment}_steps.csv"

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
