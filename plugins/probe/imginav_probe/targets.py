"""`imginav probe`: checkpoints, exports and the experiments of phases, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs
from attrs import frozen

from imginav.errors import UserError, did_you_mean
from imginav.formatting import format_duration
from imginav.plugin.registry import Registry
from imginav.processes.stop_request import Interrupted, StopRequest
from imginav.runs.evaluation_result import ProbeMetric
from imginav.runs.experiment import run_folder
from imginav.runs.run_folder import PROBES
from imginav.study.phases import Options, open_phase
from imginav.study.selection import gather
from imginav.terminal import print_table
from imginav_handoff.export_folder import is_export
from imginav_probe.measuring import ProbeRequest, measure
from imginav_probe.probe import Probe
from imginav_probe.result import ProbeResult, load_result
from imginav_probe.run_probes import probe_run
from imginav_reports import run_page
from imginav_reports.metrics_file import read_metrics
from imginav_reports.run_weights import weights_named

T = TypeVar("T")

PHASE_SUFFIX, CHECKPOINT_SUFFIX = ".toml", ".pt"

PLACES = ("machine.", "data.")
"""Prefixes of the settings of a phase that matter to its trained checkpoints: where they compute, and on what."""


@frozen(kw_only=True)
class ProbeOptions:
    """What is to be probed, and how."""

    paths: tuple[Path, ...]
    type: str  # the name of a probe component
    values: Mapping[str, Any]  # of its fields, over those of a manifest
    to: Path | None  # the folder for the result of a single checkpoint or export; None: beside it
    study: Options  # how phases are loaded


def probe_all(options: ProbeOptions, registry: Registry, stop_request: StopRequest) -> list[ProbeResult]:
    """Probe all that was named, print the results side by side, and return them.

    Raises UserError for what cannot be probed, before anything is, and Interrupted where it is asked to stop.
    """
    probe = _probe_of(options, registry)
    paths = [path if path.suffix == PHASE_SUFFIX else weights_named(path, options.study.site) for path in options.paths]
    for path in paths:
        _refuse_strange(path, options)
    results: list[ProbeResult] = []
    with stop_request.deferred():
        for path in paths:
            if path.suffix == PHASE_SUFFIX:
                results += _probe_phase(path, options, registry, stop_request)
                continue
            request = ProbeRequest(
                path=path,
                probe=probe,
                name=options.type,
                to=options.to or path.with_name(f"{path.name.removesuffix(CHECKPOINT_SUFFIX)}_probe"),
                site=options.study.site,
                settings=options.study.settings,
            )
            results.append(measure(request, registry, _unless_stopped(stop_request), stop_request))
            print(f"look at {request.to}")
    show(results)
    return results


def show(results: Sequence[ProbeResult]) -> None:
    """Print what was measured, a row for each autoencoder, below those of true and of reconstructed layouts."""
    names = list(dict.fromkeys(name for result in results for name in result.metrics))
    rows = []
    first = results[0].metrics
    for title, key in (("true layouts", "floor"), ("reconstructions", "reconstructed")):
        cells = [f"{value:.3g}" if (value := getattr(first.get(name), key, None)) is not None else "" for name in names]
        rows.append([title, "", *cells, ""])
    for result in results:
        cells = [_cell(result.metrics[name]) if name in result.metrics else "" for name in names]
        rows.append([result.experiment, "×".join(map(str, result.latent)), *cells, format_duration(result.seconds)])
    headings = [name.removeprefix("probe_") + (" ↑" if _better(results, name) else " ↓") for name in names]
    print_table("What diffusion makes of it", ["autoencoder", "latent", *headings, "time"], rows, [False] * len(rows))
    print("mean of the seeds ± half of what lies between them; reconstructions are those of the first autoencoder")


def _cell(metric: ProbeMetric) -> str:
    mean = sum(metric.values) / len(metric.values)
    return f"{mean:.3g} ± {(max(metric.values) - min(metric.values)) / 2:.1g}"


def _better(results: Sequence[ProbeResult], name: str) -> bool:
    return next(result.metrics[name].more_is_better for result in results if name in result.metrics)


def _probe_of(options: ProbeOptions, registry: Registry) -> Probe:
    """Return the probe that was asked for, with the values of the command line over its defaults."""
    try:
        component = cast(type[Probe], registry.find("probe", options.type))
    except LookupError as error:
        raise UserError(f"--type {options.type}: {error}") from None
    return _with_values(component(), options)


def _with_values(probe: Probe, options: ProbeOptions) -> Probe:
    known = [field.name for field in attrs.fields(type(probe))]
    for name, value in options.values.items():
        if name not in known:
            raise UserError(
                f"--{name} {value}: the probe {options.type} has no such value{did_you_mean(name, known)}; it has "
                f"{', '.join(known)}"
            )
    try:
        return attrs.evolve(probe, **options.values)
    except (ValueError, TypeError) as error:
        raise UserError(f"--{', --'.join(options.values)}: {error}") from None


def _refuse_strange(path: Path, options: ProbeOptions) -> None:
    if not path.exists():
        raise UserError(f"{path}: does not exist; name a run, a checkpoint (.pt), an export or a phase (.toml)")
    if path.is_dir() and not is_export(path):
        raise UserError(
            f"{path}: is a folder that neither a run nor export wrote; name a checkpoint (.pt), or the phase's file"
        )
    if options.to is not None and (path.suffix == PHASE_SUFFIX or len(options.paths) > 1):
        raise UserError(f"--to {options.to}: is for a single checkpoint or export; a phase's results go to its runs")


def _probe_phase(path: Path, options: ProbeOptions, registry: Registry, stop_request: StopRequest) -> list[ProbeResult]:
    """Probe the finished experiments of a phase, add the metrics to their evaluations, and decide the winner again."""
    opened = open_phase(options.study.load(path, registry), registry.hooks)
    finished = [one for one in gather(opened.phase, opened.fingerprints) if one.state == "finished" and one.evaluation]
    if not finished:
        raise UserError(f"{path}: none of its experiments has finished; run it first: imginav run {path}")
    results = []
    for one in finished:
        folder = run_folder(one.resolved)
        probes = {
            name: _with_values(cast(Probe, probe), options) if options.values else cast(Probe, probe)
            for name, probe in one.resolved.manifest.evaluation.probes.items()
        } or {options.type: _probe_of(options, registry)}
        evaluation = probe_run(
            one.resolved,
            folder,
            probes,
            registry=registry,
            unless_stopped=_unless_stopped(stop_request),
            stop_request=stop_request,
            site=options.study.site,
            settings=tuple(text for text in options.study.settings if text.startswith(PLACES)),
        )
        run_page.write(evaluation, folder.root, one.resolved, read_metrics(folder.metrics))
        folder.share(folder.root / run_page.PAGE)
        results += [load_result(folder.root / PROBES / name) for name in probes]
    opened.conclude(anew=True)
    return results


def _unless_stopped(stop_request: StopRequest) -> Callable[[Iterable[T]], Iterator[T]]:
    def items(given: Iterable[T]) -> Iterator[T]:
        for item in given:
            if reason := stop_request.check(advanced=True):
                raise Interrupted(reason)
            yield item

    return items
