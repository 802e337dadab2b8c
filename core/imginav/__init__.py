"""imginav: choose and train the autoencoder for latent diffusion over drawn indoor layouts."""

from imginav.components import (
    Arm,
    Callback,
    CannotMeasure,
    Choice,
    Component,
    Dataset,
    DataSpec,
    Decoder,
    Encoder,
    Head,
    LayoutSource,
    Loss,
    LRSchedule,
    Measurement,
    Metric,
    Optimizer,
    Selector,
)
from imginav.errors import UserError
from imginav.hookspecs import hookimpl

__all__ = [
    "Arm",
    "Callback",
    "CannotMeasure",
    "Choice",
    "Component",
    "DataSpec",
    "Dataset",
    "Decoder",
    "Encoder",
    "Head",
    "LRSchedule",
    "LayoutSource",
    "Loss",
    "Measurement",
    "Metric",
    "Optimizer",
    "Selector",
    "UserError",
    "hookimpl",
]
