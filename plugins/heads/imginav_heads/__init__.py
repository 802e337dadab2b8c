"""The heads that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_heads.classification import ClassificationHead
from imginav_heads.pixels import PaletteHead, RgbHead, SegmentationHead

__all__ = ["ClassificationHead", "PaletteHead", "RgbHead", "SegmentationHead", "imginav_components"]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's heads."""
    registry.add("head", "classification", ClassificationHead)
    registry.add("head", "palette", PaletteHead)
    registry.add("head", "rgb", RgbHead)
    registry.add("head", "segmentation", SegmentationHead)
