"""The metrics that come with imginav."""

from imginav import hookimpl
from imginav.registry import Registry
from imginav_metrics.pixels import PixelErrors

__all__ = ["PixelErrors", "imginav_components"]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's metrics."""
    registry.add("metric", "pixels", PixelErrors)
