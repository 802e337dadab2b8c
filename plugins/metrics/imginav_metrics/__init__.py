"""The metrics that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_metrics.bits import LayoutBits
from imginav_metrics.heads import Classification, Segmentation
from imginav_metrics.lpips import Lpips
from imginav_metrics.palette import PaletteClasses
from imginav_metrics.pixels import PixelErrors
from imginav_metrics.structure import Structure

__all__ = [
    "Classification",
    "LayoutBits",
    "Lpips",
    "PaletteClasses",
    "PixelErrors",
    "Segmentation",
    "Structure",
    "imginav_components",
]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's metrics."""
    registry.add("metric", "bits", LayoutBits)
    registry.add("metric", "classification", Classification)
    registry.add("metric", "lpips", Lpips)
    registry.add("metric", "palette", PaletteClasses)
    registry.add("metric", "pixels", PixelErrors)
    registry.add("metric", "segmentation", Segmentation)
    registry.add("metric", "structure", Structure)
