"""Which job of a cluster this process is in, and which element of its array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping

from imginav.errors import UserError
from imginav.plugin.cluster import BaseCluster, JobId
from imginav.plugin.registry import Registry
from imginav.runs.records import JOB


def place_in_array(registry: Registry, environment: Mapping[str, str]) -> int:
    """Return this process's number in a job array; raises UserError where it is in none."""
    for _, place in _places(registry, environment):
        if place.index is not None:
            return place.index
    raise UserError(
        "--index auto: this process is no element of a job array of the installed clusters "
        f"({', '.join(_clusters(registry))}); submit an array, or say which number it is"
    )


def note_own_job(registry: Registry, environment: MutableMapping[str, str]) -> None:
    """Let the records of runs say which job they are in; processes that are started from here know it as well."""
    for name, place in _places(registry, environment):
        environment[JOB] = " ".join([name, place.job, *([] if place.index is None else [str(place.index)])])


def _clusters(registry: Registry) -> dict[str, type[BaseCluster]]:
    return {r.name: r.component for r in registry if issubclass(r.component, BaseCluster)}


def _places(registry: Registry, environment: Mapping[str, str]) -> Iterable[tuple[str, JobId]]:
    for name, cluster in _clusters(registry).items():
        if place := cluster.job_of(environment):
            yield name, place
