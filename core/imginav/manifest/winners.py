"""`winner.toml`: what an earlier phase found, on which evidence, and how a later phase takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import tomlkit
from attrs import field, frozen

from imginav.errors import UserError, in_one_line, shown
from imginav.files import write_text
from imginav.formatting import apart
from imginav.manifest.config_layers import value_at
from imginav.manifest.fingerprints import LayoutsFingerprint, SplitFingerprint
from imginav.manifest.reading import read_toml
from imginav.manifest.structuring import Structurer, StructuringError

FILE = "winner.toml"

HEADER = (
    "The winner of this phase, for the phases after it and for people; imginav writes this file.",
    'Decide otherwise with: imginav winner PHASE.toml --set-to EXPERIMENT --because "..."',
)


@frozen(kw_only=True)
class Metric:
    """By what the experiments were compared."""

    name: str
    mode: Literal["min", "max"]
    definition: str  # what the name stands for in that phase; the same name can mean another thing in another


@frozen(kw_only=True)
class CandidateRecord:
    """One experiment of the phase, with all of its seeds."""

    state: str  # finished, or what keeps it from being
    runs: tuple[str, ...]  # the names of its run folders
    values: tuple[float, ...] = ()  # the metric of each seed that has one, of the training and of a probe
    figures: dict[str, float] = field(factory=dict)  # means of all metrics that the rule reads
    mean: float | None = None  # of the values; none: it cannot win
    latent: str = ""  # height×width×channels
    latent_dimensions: int | None = None
    parameters: int | None = None  # of encoder and decoder
    latency_ms: float | None = None  # to encode and decode one layout


@frozen(kw_only=True)
class Winner:
    """The decision of a phase, with everything that it rests on."""

    phase: str
    source: str  # the phase's file
    winner: str  # the experiment
    chosen_by: Literal["rule", "person"]
    because: str
    date: str  # UTC, ISO 8601
    rule: str  # with its thresholds
    chosen_by_rule: str | None = None  # what the rule says, also where a person decided
    front: tuple[str, ...] = ()  # the experiments that no other is better than in every respect
    scale: Literal["full", "trial"]
    embedded: bool | None = None  # whether it was found on embedded layouts; none: by a version that did not note it
    code_version: str
    manifest_sha256: str  # of the values of all experiments, and the rule
    values: dict[str, Any] = field(factory=dict)  # what the winner has where the experiments differ, by dotted key
    metric: Metric
    layouts: LayoutsFingerprint
    split: SplitFingerprint
    lineage: dict[str, str] = field(factory=dict)  # the winners that this phase took, by their phase
    experiments: dict[str, CandidateRecord]

    def __attrs_post_init__(self) -> None:
        if self.winner not in self.experiments:
            raise ValueError(f"expected winner to be one of the experiments, found {shown(self.winner)}")

    @property
    def summary(self) -> str:
        """Who won against whom and why, in one line that a terminal can show."""
        own = self.experiments[self.winner].mean
        others = {name: c.mean for name, c in self.experiments.items() if name != self.winner and c.mean is not None}
        figures = ""
        if own is not None and others:
            pick = min if self.metric.mode == "min" else max
            rival = pick(sorted(others), key=lambda name: others[name])
            ours, theirs = apart(own, others[rival])
            figures = f": {self.metric.name} {ours} against {theirs} ({rival})"
        if self.chosen_by == "person":
            return in_one_line(f"phase {self.phase}, {self.winner} set by a person, because {self.because!r}{figures}")
        return in_one_line(f"phase {self.phase}, {self.winner} won{figures} · rule {self.rule}")

    def save(self, folder: Path, structurer: Structurer) -> None:
        """Write winner.toml into a phase's folder, whole or not at all."""
        document = tomlkit.document()
        for line in HEADER:
            document.add(tomlkit.comment(line))
        for key, value in structurer.unstructure(self).items():
            document.add(key, value)
        write_text(folder / FILE, tomlkit.dumps(document))


def load_winner(path: Path, structurer: Structurer) -> Winner:
    """Read a winner.toml; raises UserError where it is damaged or was changed to something that does not fit."""
    try:
        return structurer.structure(_read(path), Winner)
    except StructuringError as error:
        raise UserError(f"{path}: {error}; restore the file, or run its phase again") from None


def find_winner(phase: str, shared: Path, structurer: Structurer) -> Winner | None:
    """Return the recorded winner of a phase, or none; it lies in the folder of the phase, whatever its name.

    Raises UserError where two folders hold a winner of this phase, or the shared folder cannot be read.
    """
    try:
        found = {path: _read(path) for path in sorted(shared.glob(f"*/{FILE}"))}
    except OSError as error:
        raise UserError(
            f"output.shared = {str(shared)!r} cannot be read: {error.strerror}; choose another folder"
        ) from None
    paths = [path for path, tables in found.items() if tables.get("phase") == phase]
    if len(paths) > 1:
        raise UserError(
            f"phase {phase} has more than one recorded winner: {', '.join(map(str, paths))}; remove all but one"
        )
    return load_winner(paths[0], structurer) if paths else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except UserError as error:
        raise UserError(f"{error}; restore the file, or remove it and run its phase again") from None


def take(winner: Winner, patterns: Iterable[str], asked_by: str) -> dict[str, Any]:
    """Return the winner's values that some patterns name, by dotted key.

    A pattern is a dotted key, of which parts may be `*`; the name of a table stands for all that is in it. Raises
    UserError for a pattern that names nothing of what the phase varied.
    """
    taken: dict[str, Any] = {}
    for pattern in patterns:
        matches = dict(_matches(winner.values, pattern))
        if not matches:
            raise UserError(
                f"{asked_by}: [winners] takes {pattern!r} from phase {winner.phase}, which varied "
                f"{', '.join(winner.values) or 'nothing'}; name one of these"
            )
        taken |= matches
    return taken


def touches(pattern: str, key: str) -> bool:
    """Whether a pattern names a dotted key, a table that it stands in, or something in what it names."""
    return all(fnmatchcase(part, want) for part, want in zip(key.split("."), pattern.split("."), strict=False))


def _matches(values: Mapping[str, Any], pattern: str) -> Iterator[tuple[str, Any]]:
    wanted = pattern.split(".")
    for key, value in values.items():
        parts = key.split(".")
        if not touches(pattern, key):
            continue
        deeper = wanted[len(parts) :]
        if not deeper or value is False:  # what is switched off is so as a whole
            yield key, value
        elif isinstance(value, Mapping) and (found := value_at(value, deeper)) is not None:
            yield ".".join([key, *deeper]), found
