"""imginav: choose and train the autoencoder for latent diffusion over drawn indoor layouts."""

from imginav.components import (
    Arm,
    Callback,
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
    Optimizer,
    Selector,
)
from imginav.errors import UserError
from imginav.hookspecs import hookimpl

__all__ = [
    "Arm",
    "Callback",
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
    "Optimizer",
    "Selector",
    "UserError",
    "hookimpl",
]
