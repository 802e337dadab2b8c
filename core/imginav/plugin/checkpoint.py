"""Checkpoints: what a file holds, and how it is written and read."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from imginav.errors import UserError
from imginav.files import write_bytes
from imginav.plugin.data_spec import DataSpec
from imginav.plugin.palette import Palette

FORMAT = 2
"""The version of the file's layout."""

DIGEST = "sha256"
"""The key of the digest of all else that a file holds."""

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
"""What a checkpoint holds beside tensors, and tables and lists of these."""

DAMAGES = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    pickle.UnpicklingError,
)
"""What torch raises for files that are damaged or made up, wherever it stumbles."""


@frozen(kw_only=True)
class Checkpoint:
    """The weights of an epoch with what they came from; `training` is there where a run can go on from it."""

    model: dict[str, Tensor]  # at the end of an epoch, the weights that were judged in its validation
    epoch: int  # that they are of; it may not be finished, where `training` is there
    metrics: dict[str, float]  # the row of the last finished epoch
    manifest: str  # the resolved manifest, TOML
    origins: dict[str, str]  # of each of its values, by dotted key
    trial: bool | None = None  # whether it was trained at trial scale; None in checkpoints of earlier versions
    spec: DataSpec | None = None  # of the layouts it was trained on; none: in checkpoints of earlier versions
    training: dict[str, Any] | None = None  # the trainer's state

    def save(self, path: Path, *, keep: Path | None = None) -> None:
        """Write the file, whole or not at all; the one that was there becomes `keep`, where that is given."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "model": self.model,
            "epoch": self.epoch,
            "metrics": self.metrics,
            "manifest": self.manifest,
            "origins": self.origins,
        }
        if self.trial is not None:
            content["trial"] = self.trial
        if self.spec is not None:
            content["spec"] = spec_table(self.spec)
        if self.training is not None:
            content["training"] = self.training
        content = on_cpu(content)
        buffer = io.BytesIO()
        torch.save({**content, DIGEST: sha256_of(content)}, buffer)
        write_bytes(path, buffer.getbuffer(), keep=keep)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; nothing in it is executed, and its content is what was written.

    Raises UserError where the file is missing, damaged, or no checkpoint of imginav.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        written = content.pop(DIGEST, None) if isinstance(content, dict) else None
        digest = sha256_of(content)  # here, as a tensor that is made up may be larger than any memory
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except DAMAGES as error:
        raise UserError(f"{path}: cannot be read as a checkpoint: {_reason(error)}; take another one") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: is no checkpoint of this version of imginav (format {FORMAT})")
    if written != digest:
        raise UserError(f"{path}: is damaged: its content is not what was written (SHA-256); take another one")
    try:
        return Checkpoint(
            model=content["model"],
            epoch=content["epoch"],
            metrics=content["metrics"],
            manifest=content["manifest"],
            origins=content["origins"],
            trial=content.get("trial"),
            spec=spec_of(content["spec"]) if "spec" in content else None,
            training=content.get("training"),
        )
    except KeyError as error:
        raise UserError(f"{path}: is no whole checkpoint: it has no {error.args[0]!r}; take another one") from None


def spec_table(spec: DataSpec) -> dict[str, Any]:
    """Return what layouts are made of as tables and lists, for files; `spec_of` reads them back."""
    palette = spec.palette
    return {
        "classes": list(palette.names),
        "colours": [list(colour) for colour in palette.colours],
        "background": palette.background,
        "labels": list(spec.labels),
        "targets": list(spec.targets),
    }


def spec_of(table: Mapping[str, Any]) -> DataSpec:
    """Return what `spec_table` made tables of; raises KeyError where something is missing."""
    colours = tuple((int(red), int(green), int(blue)) for red, green, blue in table["colours"])
    palette = Palette(names=tuple(table["classes"]), colours=colours, background=table["background"])
    return DataSpec(palette=palette, labels=tuple(table["labels"]), targets=tuple(table["targets"]))


def sha256_of(content: Any) -> str:
    """Return the SHA-256 of nested tables, lists, values and tensors; it is the same on every device."""
    digest = hashlib.sha256()
    _feed(digest, content)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"tensor {value.dtype} {tuple(value.shape)}\n".encode())
        # Strides are how it lies in memory, and no content.
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        digest.update(f"table of {len(value)}\n".encode())
        for key, item in value.items():
            _feed(digest, key)
            _feed(digest, item)
    elif isinstance(value, (list, tuple)):
        digest.update(f"list of {len(value)}\n".encode())
        for item in value:
            _feed(digest, item)
    else:
        digest.update(f"{value!r}\n".encode(errors="surrogatepass"))


def on_cpu(value: Any, place: str = "") -> Any:
    """Return nested tables, lists, values and tensors with all tensors on the CPU.

    Raises TypeError for anything else, with its place.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: on_cpu(item, f"{place}.{key}" if place else str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(item, place) for item in value)
    if type(value) not in PLAIN:
        # Written, it could not be read again, and a run that is killed would have lost everything.
        raise TypeError(
            f"{place}: holds a {type(value).__module__}.{type(value).__qualname__}, and a checkpoint takes nothing but "
            "tables, lists, tensors, numbers, text, bytes and None"
        )
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # whose text advises to execute what the file holds
        return "it is none, or holds more than tensors and plain values"
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
