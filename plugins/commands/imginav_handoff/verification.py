"""`imginav verify`: whether an export, or a set of latents, still is what was written and computes the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from imginav.errors import UserError
from imginav.manifest.tables import Machine
from imginav.plugin.registry import Registry
from imginav.training.device import open_device
from imginav_handoff import latent_set
from imginav_handoff.export_folder import DIGESTS, GOLDEN, LATENT, Agreement, Export, check_digests, open_export
from imginav_handoff.golden import DTYPES, TOLERANCES, agreement, load_triples
from imginav_handoff.latent_space import load_latent_space
from imginav_handoff.pretrained import Pretrained

Log = Callable[[str], None]


def verify(folder: Path, registry: Registry, *, device: str = "auto", log: Log = print) -> None:
    """Verify a folder that `imginav export` or `imginav embed` wrote.

    Raises UserError where a file is not what was written, or an export does not compute its golden triple within the
    tolerances, in fp32 or in a precision in which it did on exporting.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that imginav export or imginav embed wrote")
    if (folder / latent_set.FILE).is_file():
        latent_set.verify_latent_set(folder, log)
        return
    export = open_export(folder, registry)
    log(f"{folder}: {check_digests(folder)} files are what was written ({DIGESTS})")
    place = open_device(Machine(device=device)).device if export.exporter.any_device else torch.device("cpu")
    triples = load_triples(folder / GOLDEN)
    faults = []
    for precision in export.exporter.precisions:
        encoder, decoder = export.exporter.open(folder, export.latent)
        pretrained = Pretrained(encoder, decoder, export.latent).to(device=place, dtype=DTYPES[precision])
        measured = agreement(pretrained, triples, precision)
        known = _known_fault(export, precision)
        log(f"  {precision} on {place.type}: {_line(measured, precision)}{', as on exporting' if known else ''}")
        if measured.fault and (precision == "fp32" or not known):
            faults.append(f"in {precision}, {measured.fault}")
    if faults:
        raise UserError(
            f"{folder}: does not compute what was exported: {'; '.join(faults)}; export it again, or use it on another "
            "machine"
        )
    _check_factors(export)
    log(f"{folder}: is what was exported: {export.record.title}, epoch {export.record.weights_epoch}")


def _check_factors(export: Export) -> None:
    """Raise UserError where `latent.json` tells users to scale otherwise than the format leaves it to them."""
    given = export.exporter.given(export.latent)
    stated = load_latent_space(export.folder / LATENT, as_stated=True)
    if stated not in (given, export.latent):  # earlier versions stated what the network alone gives
        raise UserError(
            f"{export.folder / LATENT}: states scaling_factor = {stated.scaling_factor} and shift_factor = "
            f"{stated.shift_factor}, where {given.scaling_factor} and {given.shift_factor} are left to apply, or other "
            "channels; export it again"
        )


def _known_fault(export: Export, precision: str) -> str:
    measured = export.record.precisions.get(precision)
    return measured.fault if measured else ""


def _line(measured: Agreement, precision: str) -> str:
    if measured.fault:
        return f"cannot be used: {measured.fault}"
    allowed = TOLERANCES[precision]
    return (
        f"latents {measured.latent_error:.2g} standard deviations off ({allowed.latent_error:g} allowed), "
        f"{measured.pixels_off:.3%} of the pixels off ({allowed.pixels_off:.1%} allowed)"
    )
