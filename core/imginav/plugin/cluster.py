"""What the core itself knows of the plugin kind `cluster`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import field, frozen

from imginav.plugin.components import Component


@frozen(kw_only=True)
class JobId:
    """Which job, and which element of it, a process is."""

    job: str
    index: int | None = None  # in an array; none: it is in none

    @property
    def name(self) -> str:
        """The id, as people write it for an array's element."""
        return self.job if self.index is None else f"{self.job}[{self.index}]"


@frozen(kw_only=True)
class BaseCluster(Component):
    """Where jobs are submitted to, and what each of them is given.

    This is what a manifest and a running job need of it; plugins derive from `imginav.Cluster`, which adds the rest.
    """

    kind: ClassVar[str] = "cluster"

    profiles: dict[str, dict[str, Any]] = field(
        factory=dict
    )  # by name, what is other for `experiments`: phases, or experiments, by name or pattern (1.5, L4, *_F?)

    @classmethod
    @abstractmethod
    def job_of(cls, environment: Mapping[str, str]) -> JobId | None:
        """Return which job a process with these environment variables is, where it is one of such a cluster."""
