"""The probes of a finished run, whose metrics become a part of its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from attrs import evolve

from imginav.errors import UserError
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.registry import Registry, installed
from imginav.processes.stop_request import StopRequest
from imginav.runs.evaluation_result import EvaluationResult, load_evaluation
from imginav.runs.run_folder import PROBES, RunFolder
from imginav_probe.measuring import ProbeRequest, measure
from imginav_probe.probe import Log, Probe
from imginav_probe.result import load_result


def probe_run(
    resolved: ResolvedManifest,
    folder: RunFolder,
    probes: Mapping[str, Probe] | None = None,
    *,
    registry: Registry | None = None,
    unless_stopped: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    stop_request: StopRequest | None = None,
    site: Path | None = None,
    settings: tuple[str, ...] = (),
    log: Log = print,
) -> EvaluationResult:
    """Measure the probes of a finished run, by default those of its manifest, and return its evaluation with them.

    Raises UserError where the run's weights are not there, and as `measure` does.
    """
    registry = registry or installed()
    for name, probe in (probes or resolved.manifest.evaluation.probes).items():
        evaluation = load_evaluation(folder.evaluation)
        request = ProbeRequest(
            path=final_weights(folder, evaluation),
            probe=cast(Probe, probe),
            name=registry.name_of(type(probe)),
            to=folder.root / PROBES / name,
            site=site,
            settings=settings,
        )
        before = _measured_before(request.to)
        result = measure(request, registry, unless_stopped, stop_request, log)
        means = {name: fmean(metric.values) for name, metric in result.metrics.items()}
        kept = {name: value for name, value in evaluation.metrics.items() if name not in before}
        probed = {name: metric for name, metric in evaluation.probes.items() if name not in before}
        evolve(evaluation, metrics=kept | means, probes=probed | result.metrics).save(folder.evaluation)
    return load_evaluation(folder.evaluation)


def _measured_before(folder: Path) -> Collection[str]:
    """Return the names of the metrics that the same probe has measured with other settings, or earlier."""
    with suppress(UserError):
        return load_result(folder).metrics.keys()
    return ()


def final_weights(folder: RunFolder, evaluation: EvaluationResult) -> Path:
    """Return the checkpoint with the weights that a run has left."""
    best = evaluation.weights_epoch == evaluation.best_epoch
    for path in (folder.best_checkpoint, folder.latest_checkpoint) if best else (folder.latest_checkpoint,):
        if path.is_file():
            return path
    raise UserError(
        f"{folder.root}: has no checkpoint of its weights (epoch {evaluation.weights_epoch}) to probe; add [callbacks] "
        "checkpoint = {}, and train it again"
    )
