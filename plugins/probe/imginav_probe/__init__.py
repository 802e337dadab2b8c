"""Probes: what diffusion makes of an autoencoder's latents, measured by a small model that is trained on them.

A phase whose manifest has [evaluation.probes] is probed at the end of each run, between its evaluation and its page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imginav.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from imginav.plugin.registry import Registry
    from imginav.runs.experiment import FinishedRun


@hookimpl
def imginav_components(registry: Registry) -> None:
    """Register this package's probe."""
    from imginav_probe.flow_probe import FlowProbe

    registry.add("probe", "flow", FlowProbe)


@hookimpl
def run_finished(run: FinishedRun) -> None:
    """Probe the weights of a run, where its manifest says so, and add the metrics to its evaluation."""
    from imginav_probe.run_probes import probe_run  # needs torch

    if run.resolved.manifest.evaluation.probes:
        probe_run(run.resolved, run.folder, unless_stopped=run.trainer.unless_stopped)
