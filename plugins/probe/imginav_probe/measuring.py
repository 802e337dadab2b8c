"""Runs a probe on one autoencoder, and keeps what it has measured."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

from imginav.data.loader import open_fingerprint
from imginav.errors import UserError
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.registry import Registry
from imginav.processes.stop_request import StopRequest
from imginav.runs.lock import RunLock
from imginav.runs.records import code_version, utc_now
from imginav.training.device import limits_named, open_device
from imginav.training.metric_definitions import PROBE
from imginav.verbosity import unless_quiet
from imginav_handoff.sources import resolve_source, weights_of
from imginav_probe.probe import Log, Probe, Workplace
from imginav_probe.result import ProbeResult, load_result
from imginav_probe.subject import SubjectRequest, open_subject

LATENTS = "latents"
"""The folder of the embedded layouts, which are deleted when the probe has finished."""


@frozen(kw_only=True)
class ProbeRequest:
    """Which probe is to look at which autoencoder, and where its result goes."""

    path: Path  # a checkpoint, or a folder that export wrote
    probe: Probe
    name: str  # of the probe's component
    to: Path  # the folder for probe.json and pictures
    site: Path | None = None
    settings: tuple[str, ...] = ()


def measure(
    request: ProbeRequest,
    registry: Registry,
    unless_stopped: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    stop_request: StopRequest | None = None,
    log: Log = print,
) -> ProbeResult:
    """Return what a probe measures of an autoencoder, and write it; what is there already is not measured again.

    Raises UserError where the autoencoder or its layouts cannot be read, or another process measures it just now, and
    Interrupted where it is asked to stop; the next call goes on from there.
    """
    stop_request = stop_request or StopRequest()
    resolved = resolve_source(request.path, registry, site=request.site, settings=request.settings)
    request.probe.check(resolved.manifest.data.window)
    result = _begun(request, resolved, registry)
    with RunLock(request.to, stop_request.abort, log), limits_named():
        before = _earlier(request.to, result)
        if before is not None and before.finished:
            unless_quiet(log)(f"{request.to}: is measured already, with the same weights, layouts and settings")
            return before
        began = time.monotonic()
        if before is None:
            shutil.rmtree(request.to, ignore_errors=True)
        wanted = SubjectRequest(
            path=request.path, latents=request.to / LATENTS, site=request.site, settings=request.settings
        )
        unless_quiet(log)(f"probes {result.experiment}, latent {'×'.join(map(str, result.latent))}, on {result.device}")
        subject = open_subject(wanted, registry, stop_request, log)
        result = evolve(result, seconds=before.seconds if before else 0.0)
        result.save(request.to)
        try:
            metrics = request.probe.measure(
                subject, Workplace(folder=request.to, unless_stopped=unless_stopped, log=log)
            )
        except BaseException:
            evolve(result, seconds=result.seconds + time.monotonic() - began).save(request.to)
            raise
        result = evolve(
            result,
            finished=True,
            seconds=result.seconds + time.monotonic() - began,
            measured=utc_now(),
            code_version=code_version(),
            metrics={f"{PROBE}{name}": metric for name, metric in metrics.items()},
        )
        result.save(request.to)
        _tidy(request.to)
    return result


def _begun(request: ProbeRequest, resolved: ResolvedManifest, registry: Registry) -> ProbeResult:
    """Return the result of a probe that has not measured anything yet."""
    manifest = resolved.manifest
    data = open_fingerprint(manifest.data, manifest.train)
    side = manifest.data.image_size // manifest.encoder.downsampling_factor
    return ProbeResult(
        probe=request.name,
        settings={name: value for name, value in asdict(request.probe).items() if value is not None},
        source=str(request.path),
        experiment=manifest.phase.experiment,
        latent=(side, side, manifest.encoder.latent_channels),
        weights_sha256=weights_of(request.path, registry),
        layouts_sha256=f"{data.layouts.sha256}/{data.split.sha256}",
        device=open_device(manifest.machine).name,
    )


def _earlier(folder: Path, wanted: ProbeResult) -> ProbeResult | None:
    """Return what an earlier call has left of the same probe of the same autoencoder, finished or not."""
    with suppress(UserError):
        found = load_result(folder)
        if found.is_of(wanted):
            return found
    return None


def _tidy(folder: Path) -> None:
    """Remove what only an unfinished probe needs."""
    shutil.rmtree(folder / LATENTS, ignore_errors=True)
    for path in folder.glob("*.pt"):
        path.unlink()
