"""The callbacks that come with imginav."""

from imginav import hookimpl
from imginav.plugin import Registry
from imginav_callbacks.checkpoint import Checkpointing
from imginav_callbacks.early_stopping import EarlyStopping
from imginav_callbacks.ema import EMA
from imginav_callbacks.gradient_clipping import GradientClipping
from imginav_callbacks.metrics_csv import MetricsCsv
from imginav_callbacks.progress import Progress
from imginav_callbacks.samples import Samples
from imginav_callbacks.step_log import StepLog
from imginav_callbacks.tensorboard import TensorBoard

__all__ = [
    "EMA",
    "Checkpointing",
    "EarlyStopping",
    "GradientClipping",
    "MetricsCsv",
    "Progress",
    "Samples",
    "StepLog",
    "TensorBoard",
    "imginav_components",
]


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's callbacks."""
    registry.add("callback", "checkpoint", Checkpointing)
    registry.add("callback", "early_stopping", EarlyStopping)
    registry.add("callback", "ema", EMA)
    registry.add("callback", "gradient_clipping", GradientClipping)
    registry.add("callback", "metrics_csv", MetricsCsv)
    registry.add("callback", "progress", Progress)
    registry.add("callback", "samples", Samples)
    registry.add("callback", "step_log", StepLog)
    registry.add("callback", "tensorboard", TensorBoard)
