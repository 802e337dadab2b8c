"""`evaluation.json`, there and back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import attrs
import pytest

from imginav import UserError
from imginav.runs.evaluation_result import (
    Channel,
    RankedLayout,
    Reconstruction,
    Size,
    load_evaluation,
)
from imginav_tests import evaluations

EVALUATION = evaluations.evaluation(
    epochs=3,
    stop_reason="early stopping",
    best_epoch=None,
    metrics={"val_mse": 0.01, "val_psnr_db": 26.02},
    notes=("one",),
    reconstruction=Reconstruction(
        layouts={"room": 3},
        by_type={"room": {"val_mse": 0.02}},
        by_class={"val_iou": {"wall": 0.5}},
        worst=(RankedLayout(name="straße/ü.png", type="", mse=1.0),),
        definitions={"val_mse": "mean"},
        more_is_better=("val_iou",),
        not_measured={"lpips": "no weights"},
    ),
    latent_statistics=evaluations.latent(
        drawn_std=2.1,
        channels=(
            Channel(mean=0.0, std=1.0, dead=False, posterior_std=0.3, kl=1.0),
            Channel(mean=0.0, std=0.0, dead=True),
        ),
    ),
    interpolation=evaluations.interpolation(),
    size=Size(
        encoder_bytes=40,
        decoder_bytes=80,
        encode_flops=1,
        decode_flops=2,
        encode_peak_bytes=3,
        decode_peak_bytes=4,
        training_bytes=5,
    ),
    latency=evaluations.latency(),
)


def test_an_evaluation_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    EVALUATION.save(path)
    assert load_evaluation(path) == EVALUATION
    bare = attrs.evolve(EVALUATION, latent_statistics=None, interpolation=None, size=None, latency=None)
    bare.save(path)
    assert load_evaluation(path) == bare
    assert "straße" in path.read_text(encoding="utf-8")


def test_what_is_not_finite_is_null_in_the_file_and_nan_again(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    attrs.evolve(EVALUATION, metrics={"val_mse": math.nan, "val_psnr_db": math.inf}).save(path)
    table = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert table["metrics"] == {"val_mse": None, "val_psnr_db": None}
    assert all(math.isnan(value) for value in load_evaluation(path).metrics.values())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"title": "of an earlier version"}',
        '{"format": 2}',
        '{"format": 2, "title": 1, "stranger": 2}',
        '{"format": 2, "metrics": 7}',
    ],
)
def test_a_file_that_is_no_evaluation_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(UserError, match="cannot be read as an evaluation of this version of imginav") as caught:
        load_evaluation(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    EVALUATION.save(path)
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(UserError, match=r"\(it is of another version than 2\)"):
        load_evaluation(path)


def test_a_missing_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is evaluated anew"):
        load_evaluation(tmp_path / "evaluation.json")


def test_latency_is_that_of_encoding_and_decoding() -> None:
    assert EVALUATION.latency_ms == 5.0
    assert attrs.evolve(EVALUATION, latency=None).latency_ms is None
