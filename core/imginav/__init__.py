"""imginav: choose and train the autoencoder for latent diffusion over drawn indoor layouts."""

from importlib import import_module
from typing import TYPE_CHECKING

from imginav.cluster import Cluster, JobState, Place, Work
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
    Exporter,
    Head,
    LayoutSource,
    Loss,
    LRSchedule,
    Measurement,
    Metric,
    Optimizer,
    Selector,
    TrainedAutoencoder,
)
from imginav.errors import UserError
from imginav.hookspecs import hookimpl

if TYPE_CHECKING:
    from imginav.latent_set import LatentDataset
    from imginav.pretrained import Pretrained, load

__all__ = [
    "Arm",
    "Callback",
    "CannotMeasure",
    "Choice",
    "Cluster",
    "Component",
    "DataSpec",
    "Dataset",
    "Decoder",
    "Encoder",
    "Exporter",
    "Head",
    "JobState",
    "LRSchedule",
    "LatentDataset",
    "LayoutSource",
    "Loss",
    "Measurement",
    "Metric",
    "Optimizer",
    "Place",
    "Pretrained",
    "Selector",
    "TrainedAutoencoder",
    "UserError",
    "Work",
    "hookimpl",
    "load",
]

_LATE = {"LatentDataset": "imginav.latent_set", "Pretrained": "imginav.pretrained", "load": "imginav.pretrained"}
"""What needs torch, which takes seconds to import, and which most plugins and commands do not wait for."""


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module 'imginav' has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
