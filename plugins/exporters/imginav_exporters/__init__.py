"""The formats of `imginav export` that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_exporters.diffusers_model import DiffusersExporter
from imginav_exporters.graphs import OnnxExporter, Pt2Exporter
from imginav_exporters.original import OriginalExporter
from imginav_exporters.weights import SafetensorsExporter

__all__ = [
    "DiffusersExporter",
    "OnnxExporter",
    "OriginalExporter",
    "Pt2Exporter",
    "SafetensorsExporter",
    "imginav_components",
]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's exporters."""
    registry.add("exporter", "diffusers", DiffusersExporter)
    registry.add("exporter", "onnx", OnnxExporter)
    registry.add("exporter", "original", OriginalExporter)
    registry.add("exporter", "pt2", Pt2Exporter)
    registry.add("exporter", "safetensors", SafetensorsExporter)
