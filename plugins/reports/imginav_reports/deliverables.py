"""What a run leaves behind, with its fingerprints, and what a diffusion model needs to know of it."""

from __future__ import annotations

import hashlib
import math
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import tomlkit
from attrs import frozen

from imginav.files import PART
from imginav.formatting import format_bytes
from imginav.manifest.resolved import ResolvedManifest
from imginav.runs.evaluation_result import EvaluationResult
from imginav.runs.run_folder import RECORD

CHECKPOINT_SUFFIX = ".pt"
"""Of the source of a manifest that came from a checkpoint."""

HASHED_BYTES = 1 << 20
"""Of a file that are read at a time."""

PHASE_2_COMMENT = (
    "Train on (latents - shift_factor) * scaling_factor; undo it before decoding. {note} Images are RGB in [-1, 1]. "
    "A ControlNet must bring its conditioning image down by conditioning_downsampling."
)

OF_A_CHECKPOINT = (
    "These factors are for latents as the network itself gives them: imginav.load and imginav.LatentDataset have "
    "applied them already, and what imginav export writes says what is left. Code that knows no shift may leave it "
    "out, but then on both ways: scaled latents then have another mean, which no diffusion model minds."
)

COMMENT_WIDTH = 118


class Factors(Protocol):
    """What a latent is scaled by."""

    @property
    def scaling_factor(self) -> float: ...

    @property
    def shift_factor(self) -> float: ...


@frozen(kw_only=True)
class File:
    """Something that a run leaves behind."""

    path: str
    size: str
    sha256: str  # empty for what changes after it is listed


@frozen
class Weights:
    """The file that holds a run's weights."""

    path: Path
    sha256: str


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
        found.append(File(path=str(path.relative_to(folder)), size=format_bytes(size), sha256=digest))
    return found


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def phase_2_block(
    evaluation: EvaluationResult,
    tables: Mapping[str, Any],
    weights: Weights | None,
    *,
    scaling: Factors | None = None,
    note: str = OF_A_CHECKPOINT,
) -> str:
    """Return what Phase 2's configuration needs, as TOML; what is not known, or not finite, is left out.

    `tables` are those of the manifest. `scaling` is what is left to apply, where something that was made of the
    weights scales by itself, as the `note` then says.
    """
    height, width, channels = evaluation.latent
    latent: dict[str, Any] = {
        "height": height,
        "width": width,
        "channels": channels,
        "downsampling_factor": evaluation.downsampling_factor,
        "variational": tables["encoder"].get("variational", False),
    }
    if scaling is not None:
        latent |= {"scaling_factor": scaling.scaling_factor, "shift_factor": scaling.shift_factor}
    elif (known := evaluation.latent_statistics) is not None and math.isfinite(known.scaling_factor):
        latent |= {"scaling_factor": known.scaling_factor, "shift_factor": known.mean}
    document = tomlkit.document()
    for line in textwrap.wrap(PHASE_2_COMMENT.format(note=note), COMMENT_WIDTH):
        document.add(tomlkit.comment(line))
    document["autoencoder"] = {
        "experiment": evaluation.experiment,
        "weights_epoch": evaluation.weights_epoch,
        **({"checkpoint": str(weights.path), "checkpoint_sha256": weights.sha256} if weights else {}),
        "image_size": height * evaluation.downsampling_factor,
        "latent": latent,
        "parameters": {"encoder": evaluation.encoder_parameters, "decoder": evaluation.decoder_parameters},
        "metrics": {name: value for name, value in evaluation.metrics.items() if math.isfinite(value)},
        "encoder": tables["encoder"],
        "decoder": tables["decoder"],
    }
    document["unet"] = {"sample_size": height, "in_channels": channels, "out_channels": channels}
    document["controlnet"] = {"conditioning_channels": 3, "conditioning_downsampling": evaluation.downsampling_factor}
    return tomlkit.dumps(document)


def weights_of(
    evaluation: EvaluationResult, resolved: ResolvedManifest, folder: Path, files: Sequence[File]
) -> Weights | None:
    """Return the file with the weights: the run's in its folder, or the one that was evaluated."""
    which = "best" if evaluation.weights_epoch == evaluation.best_epoch else "latest"
    name = f"{evaluation.experiment}_checkpoint_{which}.pt"
    for file in files:
        if file.path == name:
            return Weights(folder.absolute() / name, file.sha256)
    if resolved.source.suffix == CHECKPOINT_SUFFIX:
        with suppress(OSError):
            return Weights(resolved.source.absolute(), sha256(resolved.source))
    return None
