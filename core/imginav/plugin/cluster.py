"""The part of the plugin kind `cluster` that the core uses; `imginav.Cluster` adds how jobs are submitted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import field, frozen

from imginav.plugin.components import Component


@frozen(kw_only=True)
class JobId:
    """A job, or one element of a job array."""

    job: str
    index: int | None = None  # number of the array element; None for a whole job

    @property
    def name(self) -> str:
        """`job`, or `job[index]` for an array element."""
        return self.job if self.index is None else f"{self.job}[{self.index}]"


@frozen(kw_only=True)
class BaseCluster(Component):
    """The scheduler that jobs are submitted to, and the resources and setup of each job."""

    kind: ClassVar[str] = "cluster"

    profiles: dict[str, dict[str, Any]] = field(
        factory=dict
    )  # overrides by profile name; `experiments` selects phases or experiments by name or glob (1.5, L4, *_F?)

    @classmethod
    @abstractmethod
    def job_of(cls, environment: Mapping[str, str]) -> JobId | None:
        """Return the job that a process with these environment variables belongs to; None if it is in none."""
