"""Where jobs run: schedulers of clusters, and this machine."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_clusters.local import Local
from imginav_clusters.lsf import LSF
from imginav_clusters.pbs import PBS
from imginav_clusters.slurm import Slurm

__all__ = ["LSF", "PBS", "Local", "Slurm", "imginav_components"]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register the clusters."""
    registry.add("cluster", "local", Local)
    registry.add("cluster", "lsf", LSF)
    registry.add("cluster", "pbs", PBS)
    registry.add("cluster", "slurm", Slurm)
