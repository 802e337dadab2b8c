"""Resolved manifests: every value of an experiment with its origin, and the experiments of a phase."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from attrs import field, frozen

from imginav.errors import in_one_line
from imginav.manifest.fingerprints import sha256_of_tables
from imginav.manifest.profiles import Profile
from imginav.manifest.resolution import RESOLVED, Resolution
from imginav.manifest.structuring import Structurer
from imginav.manifest.tables import FAULT_POLICY_KEYS, Manifest
from imginav.manifest.winners import Winner
from imginav.plugin.registry import Registry
from imginav.plugin.selector import Selector

LINEAGE = "lineage"
"""The table of a resolved manifest that holds the winners of earlier phases which it rests on, by their phase."""


@frozen(kw_only=True)
class ResolvedManifest:
    """The manifest of one experiment, with the origin of each of its values."""

    manifest: Manifest
    tables: dict[str, Any]  # the manifest as TOML tables, every value written out
    origins: dict[str, str]  # by dotted key: a file, the winner of a phase, `--set` or `default`
    source: Path  # the phase's file
    trial: bool  # whether the phase's [trial] values are in force
    name: str  # what the phase calls it, such as L3; its run folder has manifest.phase.experiment
    changes: dict[str, Any] = field(factory=dict)  # what it has where the phase's experiments differ, by dotted key
    lineage: dict[str, Winner] = field(factory=dict)  # the winners that its values came from, by their phase

    @property
    def places(self) -> tuple[str, ...]:
        """The dotted keys that say where the data lie, and not what they are."""
        data = self.manifest.data
        return tuple(f"data.{key}" for key in self.tables["data"] if isinstance(getattr(data, key, None), Path))

    @property
    def sha256(self) -> str:
        """The fingerprint of all values that the result depends on: not of names, places and observers."""
        left_out = (*self.places, *FAULT_POLICY_KEYS)
        observers = [name for name, callback in self.manifest.callbacks.items() if callback.observer]
        return sha256_of_tables(
            {
                **{key: self.tables.get(key, {}) for key in ("encoder", "decoder", "losses")},
                **{
                    table: {key: value for key, value in self.tables[table].items() if f"{table}.{key}" not in left_out}
                    for table in ("train", "data")
                },
                "callbacks": [
                    [name, table] for name, table in self.tables.get("callbacks", {}).items() if name not in observers
                ],
            }
        )

    def to_toml(self) -> str:
        """Return the manifest as TOML with each value's origin beside it; `load` reads it back as an equal one.

        The comments are for people. What programs read of them stands in the last table, [resolved].
        """
        document = tomlkit.document()
        resolution = Resolution.of(self.source, self.origins, trial=self.trial)
        document.add(tomlkit.comment(resolution.heading))
        _add_tables(document, self.tables, (), self.origins)
        if self.lineage:
            structurer = Structurer(Registry())
            document.add(LINEAGE, {phase: structurer.unstructure(w) for phase, w in self.lineage.items()})
        document.add(RESOLVED, resolution.table)
        return tomlkit.dumps(document)


@frozen(kw_only=True)
class ResolvedPhase:
    """A phase: the manifests of its experiments, and the rule by which one of them wins."""

    source: Path
    base: str  # with what the names of all run folders begin
    experiments: tuple[ResolvedManifest, ...]  # in the order of the file; with several seeds, these one after another
    selector: Selector | None  # none: it has no winner, unless it has one experiment only
    varied: tuple[str, ...]  # the dotted keys in which the experiments differ
    winners: dict[str, tuple[str, ...]]  # the dotted keys that it takes from which phase
    lineage: dict[str, Winner]  # the recorded ones of these
    not_taken: dict[str, Winner]  # those that it does not take: one side has embedded layouts, and the other has not
    notes: tuple[str, ...]  # what a person should know of the values: those of its files that do not count
    profiles: tuple[Profile, ...]  # where its jobs run, the cluster as it is last; empty: they can run nowhere
    structurer: Structurer

    @property
    def manifest(self) -> Manifest:
        """The manifest of the first experiment: for what all of them share."""
        return self.experiments[0].manifest

    @property
    def id(self) -> str:
        return self.manifest.phase.id

    @property
    def heading(self) -> str:
        """The phase's number and title."""
        return self.manifest.phase.heading

    @property
    def shared(self) -> Path:
        """The folder that the phase's experiments share."""
        return self.manifest.output.shared / self.manifest.phase.group

    @property
    def names(self) -> list[str]:
        """The experiments' names, each once."""
        return list(dict.fromkeys(experiment.name for experiment in self.experiments))

    def label(self, experiment: ResolvedManifest) -> str:
        """Return the name of one of its runs without what all of them begin with: L3, or L3_seed43."""
        return experiment.manifest.phase.experiment.removeprefix(f"{self.base}_")

    @property
    def without_winner(self) -> list[str]:
        """The phases that it takes values from and that have no recorded winner: the written values stand."""
        return [phase for phase in self.winners if phase not in {*self.lineage, *self.not_taken}]

    @property
    def sha256(self) -> str:
        """The fingerprint of all experiments and the rule."""
        rule = self.structurer.unstructure(self.selector) if self.selector else {}
        return sha256_of_tables([sorted((e.name, e.sha256) for e in self.experiments), rule])


def _add_tables(
    container: tomlkit.TOMLDocument | tomlkit.items.Table,
    tables: Mapping[str, Any],
    path: tuple[str, ...],
    origins: Mapping[str, str],
) -> None:
    for key, value in tables.items():
        if not isinstance(value, dict):
            item = tomlkit.item(value)
            item.comment(f"# {in_one_line(origins['.'.join((*path, key))])}")  # one that begins with # needs another
            container.add(key, item)
    for key, value in tables.items():
        if isinstance(value, dict):
            table = tomlkit.table()
            _add_tables(table, value, (*path, key), origins)
            container.add(key, table)
