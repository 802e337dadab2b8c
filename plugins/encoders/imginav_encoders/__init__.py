"""The encoders that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_encoders.conv import ConvEncoder
from imginav_encoders.residual import ResidualEncoder

__all__ = ["ConvEncoder", "ResidualEncoder", "imginav_components"]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's encoders."""
    registry.add("encoder", "conv", ConvEncoder)
    registry.add("encoder", "residual", ResidualEncoder)
