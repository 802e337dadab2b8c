"""The rules by which an experiment of a sweep wins that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_selectors.rules import Best, Gated, Pareto, SmallestGoodEnough

__all__ = ["Best", "Gated", "Pareto", "SmallestGoodEnough", "imginav_components"]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's selectors."""
    registry.add("selector", "best", Best)
    registry.add("selector", "gated", Gated)
    registry.add("selector", "pareto", Pareto)
    registry.add("selector", "smallest_good_enough", SmallestGoodEnough)
