"""`imginav export`: a checkpoint as a folder that a diffusion trainer loads and trusts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from imginav.errors import UserError
from imginav.files import move_aside, write_text
from imginav.formatting import format_bytes
from imginav.plugin.checkpoint import Checkpoint, load_checkpoint
from imginav.plugin.registry import Registry
from imginav.runs.evaluation_result import EvaluationResult
from imginav.runs.records import code_version, utc_now
from imginav.runs.run_folder import EVALUATION, MANIFEST
from imginav_evaluation import pictures
from imginav_evaluation.checkpoint_manifest import resolve
from imginav_handoff.architecture import Architecture
from imginav_handoff.export_folder import (
    CARD,
    GOLDEN,
    GOLDEN_PICTURE,
    LATENT,
    PHASE_2,
    RECORD,
    Agreement,
    ExportRecord,
    is_export,
    write_digests,
)
from imginav_handoff.exporter import Exporter, TrainedAutoencoder
from imginav_handoff.folder_beside import folder_beside, is_taken, put
from imginav_handoff.formats import exporter_named
from imginav_handoff.golden import DTYPES, WHOLE, Triple, agreement, golden_images, make_triples, save_triples
from imginav_handoff.latent_space import LatentSpace, latent_space_of
from imginav_handoff.model_card import model_card
from imginav_handoff.pretrained import Pretrained, ScaledDecoder, ScaledEncoder, architecture_of, with_weights
from imginav_handoff.whole_evaluation import evaluation_over_training
from imginav_reports.deliverables import Weights, phase_2_block, sha256

Log = Callable[[str], None]

DEFAULT_FORMAT = "safetensors"

TILE = 384
"""Side of a layout in the picture of the golden triple, in pixels."""


@frozen(kw_only=True)
class ExportRequest:
    """What is to be exported, where to, and how."""

    checkpoint: Path
    to: Path
    format: str  # the name of an exporter
    named: Path | None = None  # where the folder is moved afterwards, and what the card calls it; None: `to`
    site: Path | None = None
    settings: tuple[str, ...] = ()


def export(request: ExportRequest, registry: Registry, log: Log = print) -> None:
    """Write the export of a checkpoint, and verify it in a process of its own; nothing half done is left.

    An earlier export in the same place is moved aside. Raises UserError where the checkpoint or its layouts cannot be
    read, the format is not known or needs what is not installed, the place is taken, or what was written does not
    compute what the checkpoint does.
    """
    exporter = exporter_named(request.format, registry)
    _refuse_taken(request.to)
    checkpoint = load_checkpoint(request.checkpoint)
    resolved = resolve(request.checkpoint, checkpoint, registry, site=request.site, settings=request.settings)
    architecture = architecture_of(request.checkpoint, checkpoint, registry, resolved.tables)
    evaluation = evaluation_over_training(
        request.checkpoint, registry, site=request.site, settings=request.settings, log=log
    )
    trained = _trained(request, checkpoint, architecture, evaluation, registry)
    with folder_beside(request.to) as folder:
        exporter.write(trained, folder)
        triples, golden_layout = _golden(trained, resolved.tables, registry)
        save_triples(folder / GOLDEN, triples)
        _draw(folder / GOLDEN_PICTURE, triples[WHOLE])
        weights = Weights(request.checkpoint.absolute(), sha256(request.checkpoint))
        given = exporter.given(trained.latent)
        given.save(folder / LATENT, network=trained.latent, note=exporter.scaling_note)
        evaluation.save(folder / EVALUATION)
        write_text(folder / MANIFEST, resolved.to_toml() if request.settings else checkpoint.manifest)
        block = phase_2_block(evaluation, resolved.tables, weights, scaling=given, note=exporter.scaling_note)
        write_text(folder / PHASE_2, block)
        record = ExportRecord(
            format=request.format,
            title=evaluation.title,
            experiment=evaluation.experiment,
            weights_epoch=evaluation.weights_epoch,
            checkpoint=request.checkpoint.name,
            checkpoint_sha256=weights.sha256,
            weights_sha256=evaluation.weights_sha256,
            exported=utc_now(),
            code_version=code_version(),
            torch_version=str(torch.__version__),
            data=evaluation.data,
            lineage=tuple(winner.summary for winner in resolved.lineage.values()),
            golden_layout=golden_layout,
            precisions=_agreements(exporter, folder, trained.latent, triples),
        )
        record.save(folder / RECORD)
        card = model_card(record, evaluation, trained.latent, exporter, str(request.named or request.to))
        write_text(folder / CARD, card)
        write_digests(folder)
        _verify_afresh(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if is_export(request.to):
            log(f"the earlier export is kept as {move_aside(request.to)}")
        put(folder, request.to)
    for name, measured in record.precisions.items():
        found = f"cannot be used: {measured.fault}" if measured.fault else _agreed(measured)
        log(f"  {name}  {found}")
    log((request.to / PHASE_2).read_text())
    log(f"exported {record.experiment} as {record.format}, {format_bytes(size)}, verified: {request.to}")
    log(f"\nnext, in Python:\n\n{exporter.first_use(str(request.named or request.to)).strip()}")


def default_folder(given: Path, checkpoint: Path, format_name: str) -> Path:
    """Return where an export is written by default: beside the run or the checkpoint that was given.

    `checkpoint` is the one that was found for it; it is `given` itself if no run was named.
    """
    beside = checkpoint.with_suffix("") if given == checkpoint else checkpoint.parent
    suffix = "_export" if format_name == DEFAULT_FORMAT else f"_export_{format_name}"
    return beside.with_name(f"{beside.name}{suffix}")


def _refuse_taken(to: Path) -> None:
    if is_taken(to) and not is_export(to):
        raise UserError(f"--to {to}: is there already, and is no export; name another folder")


def _trained(
    request: ExportRequest,
    checkpoint: Checkpoint,
    architecture: Architecture,
    evaluation: EvaluationResult,
    registry: Registry,
) -> TrainedAutoencoder:
    path = request.checkpoint
    model = with_weights(architecture.build(registry, str(path)), checkpoint.model, str(path))
    if "rgb" not in model.output_names:
        raise UserError(f"{path}: has no output rgb, so there is no image to decode; export another one")
    latent = latent_space_of(evaluation, architecture.spec, variational=model.variational)
    return TrainedAutoencoder(
        autoencoder=model,
        architecture=architecture,
        latent=latent,
        encoder=ScaledEncoder(model, latent).eval(),
        decoder=ScaledDecoder(model, latent).eval(),
        destination=(request.named or request.to).absolute(),
    )


def _golden(
    trained: TrainedAutoencoder, tables: Mapping[str, Any], registry: Registry
) -> tuple[dict[str, Triple], str]:
    latent = trained.latent
    images, name = golden_images(tables, latent.spec, registry, latent.image_size, latent.downsampling_factor)
    return make_triples(Pretrained(trained.encoder, trained.decoder, latent), images), name


def _draw(path: Path, triple: Triple) -> None:
    row = [triple.images[0].numpy(), triple.decoded[0].numpy()]
    pictures.write_png(path, pictures.grid([row], ["golden input", "golden output"], TILE))


def _agreements(
    exporter: Exporter, folder: Path, latent: LatentSpace, triples: Mapping[str, Triple]
) -> dict[str, Agreement]:
    """Return how far what was written lies off the triples, in each precision that the format can compute in."""
    measured = {}
    for precision in exporter.precisions:
        opened = Pretrained(*exporter.open(folder, latent), latent).to(DTYPES[precision])
        measured[precision] = agreement(opened, triples, precision)
    return measured


def _agreed(measured: Agreement) -> str:
    return (
        f"agrees: latents {measured.latent_error:.2g} standard deviations off, {measured.pixels_off:.3%} of the pixels"
    )


def _verify_afresh(folder: Path) -> None:
    """Raise UserError where another process cannot load what was written, or finds it to be another one."""
    command = [sys.executable, "-m", "imginav", "verify", str(folder), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # this program
    if done.returncode:
        reason = done.stderr.strip().removeprefix("imginav: ").replace(str(folder), folder.name)
        raise UserError(f"what was exported cannot be verified, and is not left: {reason}")
