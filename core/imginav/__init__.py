"""imginav: choose and train the autoencoder for latent diffusion over drawn indoor layouts."""

from importlib import import_module
from typing import TYPE_CHECKING

from imginav.errors import UserError, refuse_old_name
from imginav.plugin.cluster import Cluster, JobId, JobSpec, JobState
from imginav.plugin.components import (
    Callback,
    Candidate,
    CannotMeasure,
    Choice,
    Component,
    Dataset,
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
from imginav.plugin.data_spec import DataSpec
from imginav.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from imginav_handoff.exporter import Exporter, TrainedAutoencoder
    from imginav_handoff.latent_set import LatentDataset
    from imginav_handoff.pretrained import Pretrained, load

__all__ = [
    "Callback",
    "Candidate",
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
    "JobId",
    "JobSpec",
    "JobState",
    "LRSchedule",
    "LatentDataset",
    "LayoutSource",
    "Loss",
    "Measurement",
    "Metric",
    "Optimizer",
    "Pretrained",
    "Selector",
    "TrainedAutoencoder",
    "UserError",
    "hookimpl",
    "load",
]

_HANDED_ON = {
    "Exporter": "imginav_handoff.exporter",
    "LatentDataset": "imginav_handoff.latent_set",
    "Pretrained": "imginav_handoff.pretrained",
    "TrainedAutoencoder": "imginav_handoff.exporter",
    "load": "imginav_handoff.pretrained",
}
"""Names of the hand-off, which is a plugin: imported when they are asked for, as they need torch."""


_RENAMED = {"Arm": "Candidate", "Place": "JobId", "Work": "JobSpec"}
"""Names of earlier versions, with those of today."""


def __getattr__(name: str) -> object:
    refuse_old_name("imginav", name, _RENAMED)
    if name not in _HANDED_ON:
        raise AttributeError(f"module 'imginav' has no attribute {name!r}")
    return getattr(import_module(_HANDED_ON[name]), name)
