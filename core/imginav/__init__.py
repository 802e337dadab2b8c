"""imginav: choose and train the autoencoder for latent diffusion over drawn indoor layouts.

A name is imported when it is asked for, so that `imginav --help` and most plugins do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from imginav.errors import refuse_old_name

if TYPE_CHECKING:
    __version__: str
    from imginav.errors import UserError
    from imginav.plugin.cluster import JobId
    from imginav.plugin.components import (
        Callback,
        CannotMeasure,
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
    )
    from imginav.plugin.data_spec import DataSpec
    from imginav.plugin.hookspecs import hookimpl
    from imginav.plugin.selector import Candidate, Choice, Selector
    from imginav.runs.evaluation_result import ProbeMetric
    from imginav.study.command_options import load_phase
    from imginav_api.measuring import evaluate, probe
    from imginav_api.run import Run, list_runs, open_run
    from imginav_api.training import TrainedPhase, train
    from imginav_handoff.exporter import Exporter, TrainedAutoencoder
    from imginav_handoff.latent_set import LatentDataset
    from imginav_handoff.pretrained import Pretrained, load
    from imginav_jobs.cluster import Cluster, JobSpec, JobState
    from imginav_probe.probe import Probe, ProbeSubject, Workplace

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
    "Probe",
    "ProbeMetric",
    "ProbeSubject",
    "Run",
    "Selector",
    "TrainedAutoencoder",
    "TrainedPhase",
    "UserError",
    "Workplace",
    "evaluate",
    "hookimpl",
    "list_runs",
    "load",
    "load_phase",
    "open_run",
    "probe",
    "train",
]

_MODULES = {
    "imginav.errors": "UserError",
    "imginav.plugin.cluster": "JobId",
    "imginav.plugin.data_spec": "DataSpec",
    "imginav.plugin.hookspecs": "hookimpl",
    "imginav.plugin.selector": "Candidate Choice Selector",
    "imginav.runs.evaluation_result": "ProbeMetric",
    "imginav.study.command_options": "load_phase",
    "imginav_api.measuring": "evaluate probe",
    "imginav_api.run": "Run list_runs open_run",
    "imginav_api.training": "TrainedPhase train",
    "imginav_handoff.exporter": "Exporter TrainedAutoencoder",
    "imginav_handoff.latent_set": "LatentDataset",
    "imginav_handoff.pretrained": "Pretrained load",
    "imginav_jobs.cluster": "Cluster JobSpec JobState",
    "imginav_probe.probe": "Probe ProbeSubject Workplace",
}
"""Names by the module that has them; all others are in `imginav.plugin.components`."""

_RENAMED = {"Arm": "Candidate", "Place": "JobId", "Work": "JobSpec"}
"""Names of earlier versions, with those of today."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("imginav")
    refuse_old_name("imginav", name, _RENAMED)
    if name not in __all__:
        raise AttributeError(f"module 'imginav' has no attribute {name!r}")
    found = next((module for module, names in _MODULES.items() if name in names.split()), "imginav.plugin.components")
    return getattr(import_module(found), name)
