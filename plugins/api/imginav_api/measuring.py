"""`imginav.evaluate` and `imginav.probe`: the commands of these names for Python users."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imginav.errors import UserError
from imginav.plugin.plugin_faults import plugin_faults_named
from imginav.plugin.registry import installed
from imginav.study.phases import Options
from imginav_api.run import Evaluated, folder_or_weights
from imginav_api.settings import as_settings
from imginav_api.stopping import KernelStopRequest, stops_as_keyboard_interrupt
from imginav_probe.result import ProbeResult
from imginav_probe.targets import ProbeOptions, probe_all
from imginav_reports.evaluate_checkpoint import Request, evaluate_checkpoint
from imginav_reports.run_weights import weights_named


def evaluate(
    weights: str | Path | Evaluated,
    data: str | Path | None = None,
    *,
    to: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    site: str | Path | None = None,
) -> Evaluated:
    """Evaluate the weights of a run or a checkpoint as `imginav evaluate` does; return what was measured and the page.

    `weights` is a run (as `imginav.train` returns it, by name or by folder) or a checkpoint. `data` is a list of other
    layouts or a folder of them, all of which are evaluated; without it these are the validation layouts of the run.
    `to` is the folder to write (default: beside the checkpoint). Raises UserError for whatever the command refuses.
    """
    place = Path(site) if site is not None else None
    request = Request(
        checkpoint=weights_named(folder_or_weights(weights), place),
        data=Path(data) if data is not None else None,
        to=Path(to) if to is not None else None,
        site=place,
        settings=as_settings(settings),
    )
    with plugin_faults_named():
        evaluate_checkpoint(request, installed())
    return Evaluated(request.folder)


def probe(
    *weights: str | Path | Evaluated,
    type: str = "flow",  # noqa: A002  # the key of a manifest that it stands for
    to: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    site: str | Path | None = None,
    **values: Any,
) -> list[ProbeResult]:
    """Measure what diffusion makes of autoencoders as `imginav probe` does, and print and return the results.

    Each of `weights` is a run, a checkpoint, a folder that export wrote, or a phase's file. `values` are keys of the
    probe, such as `steps=500` or `condition="walls"`. An interrupt saves the state and raises KeyboardInterrupt; the
    same call resumes. Raises UserError for whatever the command refuses.
    """
    if not weights:
        raise UserError("probe: name at least one run, checkpoint, export or phase")
    stop_request = KernelStopRequest()
    options = ProbeOptions(
        paths=tuple(Path(folder_or_weights(one)) for one in weights),
        type=type,
        values=values,
        to=Path(to) if to is not None else None,
        study=Options(site=Path(site) if site is not None else None, settings=as_settings(settings)),
    )
    with stops_as_keyboard_interrupt("call it again"), stop_request.install_handlers(), plugin_faults_named():
        return probe_all(options, installed(), stop_request)
