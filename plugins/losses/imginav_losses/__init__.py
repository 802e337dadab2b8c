"""The losses that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_losses.cross_entropy import CrossEntropy
from imginav_losses.kld import KLDivergence
from imginav_losses.mean_square import MeanSquare
from imginav_losses.perceptual import Perceptual
from imginav_losses.pixels import L1, MSE

__all__ = ["L1", "MSE", "CrossEntropy", "KLDivergence", "MeanSquare", "Perceptual", "imginav_components"]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's losses."""
    registry.add("loss", "cross_entropy", CrossEntropy)
    registry.add("loss", "kld", KLDivergence)
    registry.add("loss", "l1", L1)
    registry.add("loss", "mean_square", MeanSquare)
    registry.add("loss", "mse", MSE)
    registry.add("loss", "perceptual", Perceptual)
