"""Latents as the original's diffusion training reads them: a file for each layout, their list, and a configuration."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from imginav.plugin import write_bytes, write_rows, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from imginav_handoff.exporter import EmbeddedLatents
    from imginav_handoff.latent_space import LatentSpace

FOLDER, MANIFEST, CONFIG = "latents", "manifest.csv", "original.yaml"

COLUMNS = ("latent_path", "type", "is_empty")


def write_files(latents: EmbeddedLatents, folder: Path) -> None:
    """Write each latent as a file of its own, and the list of them; files that hold the same already are left.

    Paths in the list are absolute: the original prints a warning about a relative one each time that it reads it.
    """
    place = folder.absolute()
    blank = _digest_of_blank(latents.latent)
    rows = []
    for index, row in enumerate(latents.rows):
        path = folder / FOLDER / f"{row.layout:06d}.pt"
        content = _as_file(_latent(latents, index))
        if not path.is_file() or path.read_bytes() != content:
            write_bytes(path, content)
        is_empty = str(row.sha256 == blank).lower()
        rows.append({"latent_path": place / FOLDER / path.name, "type": row.type, "is_empty": is_empty})
    write_rows(folder / MANIFEST, rows, COLUMNS)


def write_config(
    folder: Path,
    latent: LatentSpace,
    checkpoint: Path | None,
    adapter: Path | None = None,
    *,
    latents: Path | None = None,
) -> None:
    """Write what the original's diffusion training has to know of an autoencoder and its latents, as YAML."""
    lines = ["# A part of the configuration of training/train_diffusion.py; the rest is yours to choose."]
    if latents is not None:
        manifest = json.dumps(str(latents.absolute() / MANIFEST))
        outputs = "  outputs:\n    latent: latent_path"
        lines += ["dataset:", f"  manifest: {manifest}", outputs, "  filters:\n    is_empty: [false]"]
    if checkpoint is None:
        lines += ["# autoencoder: from the original.yaml of what imginav export --format original writes"]
    else:
        lines += ["autoencoder:", f"  checkpoint: {json.dumps(str(checkpoint))}", "  frozen: true"]
    if adapter is not None:
        start = f"python {json.dumps(str(adapter))} training/train_diffusion.py CONFIG.yaml"
        lines += [
            "# Its network is not the original's own. In the root of that code, start the training with:",
            f"# {start}",
        ]
    lines += [
        "# Latents are scaled already, to unit standard deviation over the training layouts: what the encoder gave was",
        f"# multiplied by {latent.scaling_factor!r}. The checkpoint encodes to such latents, and decodes them.",
        "scale_factor: 1.0",
        f"unet:\n  in_channels: {latent.channels}\n  out_channels: {latent.channels}",
    ]
    write_text(folder / CONFIG, "\n".join(lines) + "\n")


def _latent(latents: EmbeddedLatents, index: int) -> Tensor:
    """Return a latent (C, h, w) that is scaled but not shifted; of a variational encoder one draw, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(latents.rows[index].layout)
        scaled: Tensor = latents[index]["latents"]
    return scaled + latents.latent.shift_factor * latents.latent.scaling_factor


def _as_file(latent: Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.save(latent.clone(), buffer)
    return buffer.getvalue()


def _digest_of_blank(latent: LatentSpace) -> str:
    """Return the digest of a layout that is nothing but background, as rows of a set have it."""
    palette = latent.spec.palette
    colour = palette.colours[palette.names.index(palette.background)]
    return hashlib.sha256(bytes(colour) * latent.image_size**2).hexdigest()
