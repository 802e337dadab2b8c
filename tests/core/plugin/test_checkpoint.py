"""Checkpoints come back as they were, and nothing in them is executed."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from attrs import evolve

from imginav import UserError
from imginav.plugin.checkpoint import Checkpoint, load_checkpoint, sha256_of
from imginav_tests.pickled_code import Code

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


def test_the_one_before_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    path, before = tmp_path / "latest.pt", tmp_path / "previous.pt"
    for epoch in (1, 2, 3):
        evolve(CHECKPOINT, epoch=epoch).save(path, keep=before)
    assert (load_checkpoint(path).epoch, load_checkpoint(before).epoch) == (3, 2)


@pytest.mark.parametrize("value", [np.float64(1.5), np.zeros(2), {1, 2}, Path("a")])
def test_a_state_that_could_not_be_read_again_is_refused_before_it_is_written(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.pt"
    CHECKPOINT.save(path)
    strange = evolve(CHECKPOINT, training={"callbacks": {"plugin": {"counts": [value]}}})
    with pytest.raises(
        TypeError, match=r"^training\.callbacks\.plugin\.counts: holds a .*, and a checkpoint takes noth"
    ):
        strange.save(path)
    assert load_checkpoint(path).training == CHECKPOINT.training


@pytest.mark.parametrize("place", range(20))
def test_a_single_wrong_bit_is_noticed_wherever_it_is(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.pt"
    CHECKPOINT.save(path)
    content = bytearray(path.read_bytes())
    content[place * len(content) // 20] ^= 4
    path.write_bytes(content)
    try:
        loaded = load_checkpoint(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017  # a bit between the records changes nothing
    else:
        assert sha256_of(loaded.model) == sha256_of(CHECKPOINT.model)
        assert (loaded.epoch, loaded.metrics, loaded.training) == (7, CHECKPOINT.metrics, CHECKPOINT.training)


def test_a_wrong_bit_in_the_weights_which_torch_does_not_notice_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    CHECKPOINT.save(path)
    content = bytearray(path.read_bytes())
    content[content.index(CHECKPOINT.model["weight"].numpy().tobytes()) + 5] ^= 4
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    with pytest.raises(UserError, match=r"a.pt: is damaged: its content is not what was written \(SHA-256\); take"):
        load_checkpoint(path)


def test_the_digest_is_of_the_content_and_not_of_how_it_lies_in_memory() -> None:
    weights = torch.arange(48.0).reshape(2, 3, 2, 4)
    assert sha256_of({"a": weights}) == sha256_of({"a": weights.contiguous(memory_format=torch.channels_last)})
    others = [weights.double(), weights.reshape(3, 2, 2, 4), weights + 1e-6, weights.bfloat16(), weights.tolist()]
    digests = {sha256_of({"a": value}) for value in [weights, *others]} | {sha256_of({"b": weights})}
    assert len(digests) == len(others) + 2


@pytest.mark.parametrize("key", ["model", "epoch", "metrics", "manifest", "origins"])
def test_a_checkpoint_without_a_part_is_refused(tmp_path: Path, key: str) -> None:
    CHECKPOINT.save(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    del content[key], content["sha256"]
    torch.save({**content, "sha256": sha256_of(content)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=rf"a.pt: is no whole checkpoint: it has no '{key}'; take another one"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_tensor_larger_than_any_memory_is_refused(tmp_path: Path) -> None:
    evil = {"format": 2, "model": {"weight": torch.zeros(1).expand(10**15)}}
    torch.save(evil, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a.pt: cannot be read as a checkpoint: .*; take another one"):
        load_checkpoint(tmp_path / "a.pt")


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
