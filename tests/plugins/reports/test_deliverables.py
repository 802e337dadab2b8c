"""What a run leaves behind: the list of its files, and the block for Phase 2."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import tomli

from imginav.manifest.resolved import ResolvedManifest
from imginav.runs.evaluation_result import EvaluationResult
from imginav_reports import deliverables
from imginav_reports.deliverables import File, Weights, files_of, phase_2_block, sha256, weights_of
from imginav_tests import evaluations

Resolve = Callable[..., ResolvedManifest]

EVALUATION = evaluations.evaluation(
    epochs=3,
    metrics={"val_mse": 0.1 + 0.2, "val_ssim": math.nan, "val_psnr_db": math.inf},
)

BEST, LATEST = (File(path=f"tiny_checkpoint_{name}.pt", size="", sha256=name) for name in ("best", "latest"))


def test_the_sha256_is_that_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 9000)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_that_vanish_while_they_are_read_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)

    def taken_away(path: Path) -> str:
        if path.name == "b":
            path.unlink()
        return sha256(path)

    monkeypatch.setattr(deliverables, "sha256", taken_away)
    assert [file.path for file in files_of(tmp_path, but=tmp_path / "c")] == ["a"]


def test_figures_that_are_not_finite_are_left_out_and_the_others_are_exact(resolve: Resolve) -> None:
    found = tomli.loads(phase_2_block(EVALUATION, resolve().tables, None))["autoencoder"]
    assert found["metrics"] == {"val_mse": 0.1 + 0.2}
    assert "scaling_factor" not in found["latent"]
    assert "checkpoint" not in found


def test_the_checkpoint_is_the_one_with_the_weights(resolve: Resolve, tmp_path: Path) -> None:
    def checkpoint(evaluation: EvaluationResult) -> str:
        weights = weights_of(evaluation, resolve(), tmp_path, [BEST, LATEST])
        block = tomli.loads(phase_2_block(evaluation, resolve().tables, weights))["autoencoder"]
        assert block["checkpoint"] == str(tmp_path / f"tiny_checkpoint_{block['checkpoint_sha256']}.pt")
        return str(block["checkpoint_sha256"])

    assert checkpoint(EVALUATION) == "best"
    assert checkpoint(attrs.evolve(EVALUATION, best_epoch=1)) == "latest"


def test_a_unet_takes_what_the_latent_has(resolve: Resolve) -> None:
    block = tomli.loads(phase_2_block(EVALUATION, resolve().tables, None))
    assert block["unet"] == {"sample_size": 8, "in_channels": 2, "out_channels": 2}
    assert block["controlnet"]["conditioning_downsampling"] == 4


def test_of_an_evaluation_the_checkpoint_is_the_one_that_was_evaluated(resolve: Resolve, tmp_path: Path) -> None:
    path = tmp_path / "copy of it.pt"
    path.write_bytes(b"weights")
    resolved = attrs.evolve(resolve(), source=path)
    assert weights_of(EVALUATION, resolved, tmp_path, []) == Weights(path, hashlib.sha256(b"weights").hexdigest())
    path.unlink()
    assert weights_of(EVALUATION, resolved, tmp_path, []) is None
