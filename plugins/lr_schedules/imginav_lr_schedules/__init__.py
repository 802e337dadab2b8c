"""The learning-rate schedules that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_lr_schedules.warmup import Constant, Cosine, Linear

__all__ = ["Constant", "Cosine", "Linear", "imginav_components"]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's learning-rate schedules."""
    registry.add("lr_schedule", "constant", Constant)
    registry.add("lr_schedule", "cosine", Cosine)
    registry.add("lr_schedule", "linear", Linear)
