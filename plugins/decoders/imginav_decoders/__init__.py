"""The decoders that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_decoders.conv import ConvDecoder
from imginav_decoders.residual import ResidualDecoder

__all__ = ["ConvDecoder", "ResidualDecoder", "imginav_components"]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's decoders."""
    registry.add("decoder", "conv", ConvDecoder)
    registry.add("decoder", "residual", ResidualDecoder)
