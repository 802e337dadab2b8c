"""What a folder that `imginav export` wrote holds beside the files of its format, and how it is opened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from attrs import field, frozen

from imginav.errors import UserError, in_one_line, shown
from imginav.files import write_text
from imginav.manifest.json_record import MissingRecordError, load_record_of, save_record
from imginav.plugin.registry import Registry
from imginav_handoff.exporter import Exporter
from imginav_handoff.latent_space import LatentSpace, load_latent_space
from imginav_reports.deliverables import sha256

RECORD, LATENT, GOLDEN = "export.json", "latent.json", "golden.safetensors"
GOLDEN_PICTURE, CARD, PHASE_2, DIGESTS = "golden.png", "README.md", "2_0_handoff.toml", "SHA256SUMS"

VERSION = ("version", 1)
"""The version of the folder's layout."""


@frozen(kw_only=True)
class Agreement:
    """How far what an export computes in one precision lies from its golden triple."""

    latent_error: float  # root mean square, in standard deviations of the latent
    pixels_off: float  # the share of decoded pixels that lie more than `golden.PIXEL_OFF` of 255 off
    largest_value: float  # inside of the networks; fp16 holds 65,504
    fault: str = ""  # what makes it unusable; empty where it is within the tolerances


@frozen(kw_only=True)
class ExportRecord:
    """`export.json`: what was exported, from what, and how well it was found to agree with it."""

    format: str  # the exporter's name
    title: str
    experiment: str
    weights_epoch: int
    checkpoint: str  # the file's name
    checkpoint_sha256: str
    weights_sha256: str
    exported: str  # when, UTC, ISO 8601
    code_version: str
    torch_version: str
    data: str  # the layouts it was trained on, for people
    lineage: tuple[str, ...]  # the winners of earlier phases that it rests on, one line each
    golden_layout: str  # what the golden triple is of
    precisions: dict[str, Agreement] = field(factory=dict)  # as it was measured on exporting

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        save_record(path, self, VERSION)


@frozen(kw_only=True)
class Export:
    """An export that is whole, with what opens it."""

    folder: Path
    record: ExportRecord
    latent: LatentSpace
    exporter: Exporter


def is_export(folder: Path) -> bool:
    """Whether a folder is, or once was, an export."""
    return (folder / RECORD).is_file()


def open_export(folder: Path, registry: Registry) -> Export:
    """Return an export; raises UserError where a file of it is missing or not what was written."""
    record = load_export_record(folder)
    check_digests(folder)
    try:
        exporter = registry.find("exporter", record.format)
    except LookupError as error:
        raise UserError(f"{folder / RECORD}: format: {error}") from None
    latent = load_latent_space(folder / LATENT)
    return Export(folder=folder, record=record, latent=latent, exporter=cast(Exporter, exporter()))


def load_export_record(folder: Path) -> ExportRecord:
    """Read the `export.json` of a folder; raises UserError where there is none that fits."""
    try:
        return load_record_of(folder / RECORD, ExportRecord, "the record of an export", "export it again", VERSION)
    except MissingRecordError:
        raise UserError(
            f"{folder}: is no export of imginav: it has no {RECORD}; make one with imginav export"
        ) from None


def write_digests(folder: Path) -> None:
    """Write the SHA-256 of every file in a folder, as `sha256sum --check` takes them; the last file that is written."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in sorted(_files(folder) - {DIGESTS})]
    write_text(folder / DIGESTS, "".join(lines))


def check_digests(folder: Path) -> int:
    """Return how many files have the SHA-256 that was written; raises UserError with all others."""
    written = _written(folder)
    faults = [f"{name} is missing" for name in sorted(written.keys() - _files(folder))]
    faults += [
        f"{name} was not there when it was written" for name in sorted(_files(folder) - written.keys() - {DIGESTS})
    ]
    present = sorted(written.keys() & _files(folder))
    faults += [f"{name} is not what was written" for name in present if _digest(folder / name) != written[name]]
    if faults:
        raise UserError(f"{folder}: was changed: {in_one_line('; '.join(faults))} ({DIGESTS}); make the folder anew")
    return len(written)


def has_all_files(folder: Path) -> bool:
    """Whether every file whose digest was written is there; raises UserError where the list cannot be read."""
    return _written(folder).keys() <= _files(folder)


def _written(folder: Path) -> dict[str, str]:
    """Return the digests that were written, by file."""
    path = folder / DIGESTS
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); make the folder anew") from None
    written: dict[str, str] = {}
    for line in lines:
        if (match := re.fullmatch(r"([0-9a-f]{64})  (.+)", line)) is None:
            raise UserError(f"{path}: is no list of digests: {shown(line)}; make the folder anew")
        written[match[2]] = match[1]
    return written


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; make the folder anew") from None


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
