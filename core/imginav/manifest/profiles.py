"""Where the experiments of a phase run: a cluster as it is, or with what one of its profiles changes."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from attrs import evolve, frozen

from imginav.errors import shown
from imginav.manifest.structuring import Fault, Structurer, StructuringError
from imginav.manifest.tables import Plan
from imginav.plugin.cluster import BaseCluster

EXPERIMENTS = "experiments"
"""The key of a profile that says for which experiments it is; all others change the cluster."""


@frozen(kw_only=True)
class Profile:
    """A cluster for some experiments."""

    name: str  # empty: the cluster as it is
    experiments: tuple[str, ...]  # phases, or experiments by their names or those of their runs; patterns
    cluster: BaseCluster

    def is_for(self, *names: str) -> bool:
        """Whether it is for an experiment of some names: its phase's, its own, its run's."""
        return any(fnmatchcase(name, pattern) for pattern in self.experiments for name in names)


def profiles_of(cluster: BaseCluster | None, table: Mapping[str, Any], structurer: Structurer) -> tuple[Profile, ...]:
    """Return the profiles of a cluster, from its table, in their order, and the cluster as it is for all else.

    Raises StructuringError for a profile that does not say for what it is, or what the cluster cannot have.
    """
    if cluster is None:
        return ()
    profiles, faults = [], []
    common = {key: value for key, value in table.items() if key != "profiles"}
    for name, changed in cluster.profiles.items():
        within = "cluster", "profiles", name
        patterns = changed.get(EXPERIMENTS)
        if not isinstance(patterns, list) or not patterns or not all(isinstance(pattern, str) for pattern in patterns):
            faults.append(
                Fault(
                    (*within, EXPERIMENTS),
                    f"expected a list of phases or experiments, such as ['1.5', 'L4'], found {shown(patterns)}",
                )
            )
            continue
        own = {key: value for key, value in changed.items() if key != EXPERIMENTS}
        if wrong := sorted({"type", "profiles"} & own.keys()):
            faults.append(Fault((*within, wrong[0]), "expected what a profile can change; the cluster has it for all"))
            continue
        try:
            changed_cluster = structurer.structure({"cluster": {**common, **own}}, Plan).cluster
        except StructuringError as error:
            faults += [evolve(fault, path=(*within, *fault.path[1:])) for fault in error.faults]
            continue
        if changed_cluster is not None:
            profiles.append(Profile(name=name, experiments=tuple(patterns), cluster=changed_cluster))
    if faults:
        raise StructuringError(faults)
    return (*profiles, Profile(name="", experiments=("*",), cluster=cluster))
