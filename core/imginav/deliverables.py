"""What a run leaves behind, with its fingerprints, and what a diffusion model needs to know of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomlkit
from attrs import frozen

from imginav.listing import gigabytes
from imginav.loading import ResolvedManifest
from imginav.outcome import Outcome
from imginav.rundir import PART, RECORD

CHECKPOINT_SUFFIX = ".pt"
"""Of the source of a manifest that came from a checkpoint."""

HASHED_BYTES = 1 << 20
"""Of a file that are read at a time."""


@frozen(kw_only=True)
class File:
    """Something that a run leaves behind."""

    path: str
    size: str
    sha256: str  # empty for what changes after it is listed


def files_of(folder: Path, but: Path) -> list[File]:
    """Return what lies in a run's folder, but for one file and what is not whole."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != PART):
        if path == but:
            continue
        try:
            size, digest = path.stat().st_size, "" if path.name == RECORD else sha256(path)
        except OSError:  # somebody has just taken it away
            continue
        found.append(File(path=str(path.relative_to(folder)), size=gigabytes(size), sha256=digest))
    return found


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def architecture(outcome: Outcome, resolved: ResolvedManifest, files: Sequence[File]) -> str:
    """Return what Phase 2 needs to know of the autoencoder, as TOML; what is not known, or not finite, is left out."""
    checkpoint: dict[str, Any] = {"experiment": outcome.experiment, "weights_epoch": outcome.weights_epoch}
    checkpoint |= _weights(outcome, resolved, files)
    height, width, channels = outcome.latent
    latent: dict[str, Any] = {
        "height": height,
        "width": width,
        "channels": channels,
        "downsampling_factor": outcome.downsampling_factor,
        "variational": resolved.manifest.encoder.variational,
    }
    if (known_latent := outcome.latent_statistics) is not None and math.isfinite(known_latent.scaling_factor):
        latent |= {"mean": known_latent.mean, "std": known_latent.std, "scaling_factor": known_latent.scaling_factor}
    size = {"encoder": outcome.encoder_parameters, "decoder": outcome.decoder_parameters}
    document = tomlkit.document()
    document.add(tomlkit.comment("Scaled latents: (encoder(image) - mean) * scaling_factor; undo it before decoding."))
    document.add(tomlkit.comment("Images are RGB in [-1, 1]. Without subtracting the mean, scaling alone will do."))
    document["autoencoder"] = {
        **checkpoint,
        "image_size": height * outcome.downsampling_factor,
        "latent": latent,
        "parameters": size,
        "metrics": {name: value for name, value in outcome.metrics.items() if math.isfinite(value)},
        "encoder": resolved.tables["encoder"],
        "decoder": resolved.tables["decoder"],
    }
    return tomlkit.dumps(document)


def _weights(outcome: Outcome, resolved: ResolvedManifest, files: Sequence[File]) -> dict[str, str]:
    """Return the name and the SHA-256 of the file with the weights: the run's, or the one that was evaluated."""
    name = f"{outcome.experiment}_checkpoint_{'best' if outcome.weights_epoch == outcome.best_epoch else 'latest'}.pt"
    for file in files:
        if file.path == name:
            return {"checkpoint": name, "checkpoint_sha256": file.sha256}
    if resolved.source.suffix == CHECKPOINT_SUFFIX:
        with suppress(OSError):
            return {"checkpoint": resolved.source.name, "checkpoint_sha256": sha256(resolved.source)}
    return {}
