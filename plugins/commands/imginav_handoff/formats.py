"""The formats that `--format` names: installed exporters."""

from __future__ import annotations

from typing import cast

from imginav.errors import UserError
from imginav.plugin.registry import Registry
from imginav_handoff.exporter import Exporter


def exporter_named(name: str, registry: Registry) -> Exporter:
    """Return an exporter; raises UserError where it is not installed, or needs what is not."""
    try:
        exporter = cast(Exporter, registry.find("exporter", name)())
    except LookupError as error:
        raise UserError(f"--format {name}: {error}") from None
    exporter.check()
    return exporter


def latents_exporter(name: str, flips: str, registry: Registry) -> Exporter:
    """Return an exporter that writes latents; raises UserError where it writes none, or none with these flips."""
    exporter = exporter_named(name, registry)
    if not _writes_latents(type(exporter)):
        exporters = [found for found in registry if found.kind == "exporter"]
        others = sorted(found.name for found in exporters if _writes_latents(cast("type[Exporter]", found.component)))
        raise UserError(f"--format {name}: writes no latents; take one of {', '.join(others)}")
    exporter.check_latents(flips)
    return exporter


def _writes_latents(exporter: type[Exporter]) -> bool:
    return exporter.write_latents is not Exporter.write_latents
