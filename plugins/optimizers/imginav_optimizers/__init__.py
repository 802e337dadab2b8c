"""The optimizers that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_optimizers.muon import Muon
from imginav_optimizers.standard import SGD, AdamW

__all__ = ["SGD", "AdamW", "Muon", "imginav_components"]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's optimizers."""
    registry.add("optimizer", "adamw", AdamW)
    registry.add("optimizer", "muon", Muon)
    registry.add("optimizer", "sgd", SGD)
