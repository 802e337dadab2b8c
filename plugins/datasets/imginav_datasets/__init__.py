"""The data sets that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_datasets.folder import Folder
from imginav_datasets.layouts import Layouts
from imginav_datasets.procedural import Procedural

__all__ = ["Folder", "Layouts", "Procedural", "imginav_components"]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's data sets."""
    registry.add("dataset", "folder", Folder)
    registry.add("dataset", "layouts", Layouts)
    registry.add("dataset", "procedural", Procedural)
