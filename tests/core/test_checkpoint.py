"""Checkpoints come back as they were, and nothing in them is executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from imginav import UserError
from imginav.checkpoint import Checkpoint, load_checkpoint

CHECKPOINT = Checkpoint(
    model={"weight": torch.arange(6.0).reshape(2, 3)},
    epoch=7,
    metrics={"val_mse": 0.5},
    manifest="[phase]\n",
    origins={"phase.id": "default"},
    training={"step": 3, "optimization": {"lr": [1e-3]}},
)


def test_a_checkpoint_survives_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    CHECKPOINT.save(path)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.model["weight"], CHECKPOINT.model["weight"])
    assert (loaded.epoch, loaded.metrics, loaded.manifest, loaded.origins, loaded.training) == (
        CHECKPOINT.epoch,
        CHECKPOINT.metrics,
        CHECKPOINT.manifest,
        CHECKPOINT.origins,
        CHECKPOINT.training,
    )


class Code:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self._marker),))


def test_code_in_a_checkpoint_is_refused_and_not_executed(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.pt", tmp_path / "executed"
    torch.save({"format": 2, "model": Code(marker)}, path)
    with pytest.raises(UserError, match=r"evil.pt: cannot be read as a checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Code(marker), protocol=2))
    with pytest.raises(UserError, match=r"evil.pt: cannot be read as a checkpoint"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("size", [0, 1, 100, 800])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.pt"
    CHECKPOINT.save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"a.pt: cannot be read as a checkpoint: .*; take another one"):
        load_checkpoint(path)


def test_a_missing_file_and_a_strange_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="is no checkpoint of this version of imginav"):
        load_checkpoint(tmp_path / "other.pt")
