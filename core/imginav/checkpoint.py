"""Checkpoints: what a file holds, and how it is written and read."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from imginav.errors import UserError
from imginav.rundir import atomic_write

FORMAT = 1
"""The version of the file's layout."""


@frozen(kw_only=True)
class Checkpoint:
    """The weights of an epoch with what they came from; `training` is there where a run can go on from it."""

    model: dict[str, Tensor]  # the weights that were judged in the epoch's validation
    epoch: int
    metrics: dict[str, float]  # the epoch's row
    manifest: str  # the resolved manifest, TOML
    origins: dict[str, str]  # of each of its values, by dotted key
    training: dict[str, Any] | None = None  # the trainer's state

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "model": self.model,
            "epoch": self.epoch,
            "metrics": self.metrics,
            "manifest": self.manifest,
            "origins": self.origins,
        }
        if self.training is not None:
            content["training"] = self.training
        buffer = io.BytesIO()
        torch.save(content, buffer)
        with atomic_write(path) as stream:
            stream.write(buffer.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; nothing in it is executed.

    Raises UserError where the file is missing, damaged, or no checkpoint of imginav.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: cannot be read as a checkpoint: {_reason(error)}; take another one") from error
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise UserError(f"{path}: is no checkpoint of this version of imginav (format {FORMAT})")
    return Checkpoint(
        model=content["model"],
        epoch=content["epoch"],
        metrics=content["metrics"],
        manifest=content["manifest"],
        origins=content["origins"],
        training=content.get("training"),
    )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
