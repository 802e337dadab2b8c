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
    Interpolation,
    Latency,
    Latent,
    NoiseLevel,
    Pair,
    RankedLayout,
    Reconstruction,
    Size,
    load_outcome,
)
from imginav_tests import outcomes

OUTCOME = outcomes.outcome(
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
    latent_statistics=Latent(
        layouts=12,
        mean=0.1,
        std=2.0,
        scaling_factor=0.5,
        minimum=-3.0,
        maximum=3.0,
        drawn_std=2.1,
        channels=(
            Channel(mean=0.0, std=1.0, dead=False, posterior_std=0.3, kl=1.0),
            Channel(mean=0.0, std=0.0, dead=True),
        ),
        sampled_layouts=4,
        noise=(NoiseLevel(level=0.0, mse=0.01, mse_added=0.0),),
        encode_shift_error=0.1,
        decode_shift_error=0.2,
    ),
    interpolation=Interpolation(
        steps=8, straight=1.1, spherical=1.2, pairs=(Pair(first="a", second="b", straight=1.1, spherical=1.2),)
    ),
    size=Size(
        encoder_bytes=40,
        decoder_bytes=80,
        encode_flops=1,
        decode_flops=2,
        encode_peak_bytes=3,
        decode_peak_bytes=4,
        training_bytes=5,
    ),
    latency=Latency(
        device="cpu", precision="fp32", passes=7, encode_ms=3.0, encode_p95_ms=3.5, decode_ms=2.0, decode_p95_ms=2.5
    ),
)


def test_an_outcome_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    OUTCOME.save(path)
    assert load_outcome(path) == OUTCOME
    bare = attrs.evolve(OUTCOME, latent_statistics=None, interpolation=None, size=None, latency=None)
    bare.save(path)
    assert load_outcome(path) == bare
    assert "straße" in path.read_text(encoding="utf-8")


def test_what_is_not_finite_is_null_in_the_file_and_nan_again(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    attrs.evolve(OUTCOME, metrics={"val_mse": math.nan, "val_psnr_db": math.inf}).save(path)
    table = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert table["metrics"] == {"val_mse": None, "val_psnr_db": None}
    assert all(math.isnan(value) for value in load_outcome(path).metrics.values())


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
def test_a_file_that_is_no_outcome_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(UserError, match="cannot be read as an evaluation of this version of imginav") as caught:
        load_outcome(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    OUTCOME.save(path)
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(UserError, match=r"\(it is of another version than 2\)"):
        load_outcome(path)


def test_a_missing_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is evaluated anew"):
        load_outcome(tmp_path / "evaluation.json")


def test_latency_is_that_of_encoding_and_decoding() -> None:
    assert OUTCOME.latency_ms == 5.0
    assert attrs.evolve(OUTCOME, latency=None).latency_ms is None


def test_the_facts_name_dead_channels_and_what_was_out_of_the_ordinary() -> None:
    facts = OUTCOME.facts()
    assert ("note", "one") in facts
    assert dict(facts)["latent"] == "8×8×2 (H×W×C), scaling factor 0.5, 1 of its channels dead"
    assert dict(facts)["speed"] == "3 ms to encode, 2 ms to decode"
    assert dict(facts)["weights of"] == "epoch 2 of 3"
    assert dict(attrs.evolve(OUTCOME, best_epoch=1).facts())["weights of"].endswith("the best by val_loss: 1")
    many = attrs.evolve(OUTCOME, notes=tuple(map(str, range(25)))).facts()
    assert many[-1] == ("note", "and 5 more, which evaluation.json lists")


def test_a_perfect_reconstruction_has_no_finite_psnr_and_is_shown_all_the_same() -> None:
    facts = dict(attrs.evolve(OUTCOME, metrics={"val_mse": 0.0, "val_psnr_db": math.inf}).facts())
    assert facts["PSNR of it"] == "inf dB"
    assert "inf times below" in facts["val MSE"]
