"""imginav: choose and train the autoencoder for latent diffusion over drawn indoor layouts."""

from imginav.components import (
    Callback,
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
)
from imginav.errors import UserError
from imginav.hookspecs import hookimpl

__all__ = [
    "Callback",
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
    "UserError",
    "hookimpl",
]
