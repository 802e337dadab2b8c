"""The card of an export."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from huggingface_hub import ModelCard

from imginav import DataSpec
from imginav.runs.evaluation_result import NoiseLevel, RankedLayout, Reconstruction
from imginav_exporters import SafetensorsExporter
from imginav_handoff.export_folder import Agreement
from imginav_handoff.latent_space import latent_space_of
from imginav_handoff.model_card import as_yaml, cell, model_card
from imginav_tests import evaluations
from imginav_tests.exports import export_record

RECORD = export_record(
    title="Phase 1.5 · Final",
    experiment="final",
    weights_epoch=7,
    checkpoint_sha256="ab12",
    data='layouts of "the | set"',
    lineage=("phase 1.1, L2 won: val_mse 0.01 against 0.02 (L1)",),
    precisions={
        "fp32": Agreement(latent_error=0.0, pixels_off=0.0, largest_value=20.0),
        "fp16": Agreement(latent_error=0.5, pixels_off=0.25, largest_value=20.0, fault="encoder gives inf in float16"),
    },
)

EVALUATION = evaluations.evaluation(
    title="Phase 1.5 · Final",
    experiment="final",
    weights_epoch=7,
    epochs=9,
    best_epoch=7,
    metrics={"val_mse": 0.00123, "val_psnr_db": 35.1, "val_loss": 9.9},
    flat_background_mse=0.2,
    encoder_parameters=1234,
    decoder_parameters=5678,
    train_layouts=1200,
    validation_layouts=40,
    evaluated="2026-01-02T03:04:05+00:00",
    reconstruction=Reconstruction(
        layouts={"room": 30, "scene": 10},
        by_type={"room": {"val_mse": 0.001}, "scene": {"val_mse": 0.002}},
        worst=(RankedLayout(name="layout 3", type="room", mse=0.03),),
        definitions={"val_mse": "mean | of squares", "val_psnr_db": "peak ratio", "val_lpips": "perceptual distance"},
        more_is_better=("val_psnr_db",),
        not_measured={"lpips": "there are no weights of VGG16"},
    ),
    latent_statistics=evaluations.whole_latent(
        layouts=1200,
        sampled_layouts=6,
        noise=(NoiseLevel(level=0.0, mse=0.001, mse_added=0.0), NoiseLevel(level=0.2, mse=0.004, mse_added=0.003)),
    ),
    latency=evaluations.latency(device="cpu, 2 threads", precision="bf16", passes=50, encode_ms=8.25, decode_ms=15.5),
)


@pytest.fixture
def write(spec: DataSpec) -> Any:
    def write(**changes: Any) -> str:
        evaluation = attrs.evolve(EVALUATION, **changes)
        latent = latent_space_of(evaluation, spec, variational=False)
        return model_card(RECORD, evaluation, latent, SafetensorsExporter(), "handoff")

    return write


def test_it_says_what_was_measured(write: Any) -> None:
    card = write()
    assert "| val_mse | ↓ | 0.0012300 | mean \\| of squares |" in card
    assert "| val_psnr_db | ↑ | 35.100 | peak ratio |" in card
    assert "on 40 validation layouts" in card
    assert "| room | 30 | 0.0010000 | – |" in card
    assert "The worst rebuilt is layout 3 with MSE 0.0300." in card
    assert "8.25 ms to encode and 15.5 ms to decode (median of 50), on\ncpu, 2 threads in bf16." in card
    assert "1,234 and 5,678 parameters" in card
    assert "| scaling factor | 1.0 |" in card
    assert "| shift factor | 0.0 |" in card
    assert "gives latents of mean 0.5000 and standard deviation 0.2500, measured over" in card
    assert "1,200 training layouts, all that there are" in card
    assert "| wall | 200 200 200 |" in card
    assert "- phase 1.1, L2 won: val_mse 0.01 against 0.02 (L1)" in card
    assert "`best.pt`, SHA-256 `ab12`" in card
    assert 'imginav.load("handoff")' in card


def test_it_names_the_limits(write: Any) -> None:
    _, _, limits = write().partition("## Limits")
    assert "trained at trial scale" in limits
    assert "these carry next to nothing: 1." in limits
    assert "cannot be used in fp16: encoder gives inf in float16." in limits
    assert "not tried in bf16." in limits
    assert "lpips was not measured: there are no weights of VGG16." in limits
    assert "raises the MSE of what is decoded from 0.00100 to 0.00400 (6 validation layouts)" in limits
    assert "trial scale" not in write(trial=False)


def test_what_was_not_measured_is_not_in_it(write: Any) -> None:
    card = write(latency=None, metrics={}, reconstruction=Reconstruction())
    assert "ms to encode" not in card
    assert "| figure |" not in card
    assert "worst rebuilt" not in card
    assert "val_lpips" not in write()  # it is defined, but has no figure
    assert "Limits" in card


def test_its_front_matter_is_that_of_the_hub(write: Any) -> None:
    data = ModelCard(write()).data
    assert data.library_name == "imginav"
    assert data.tags == ["autoencoder", "latent-diffusion", "imginav", "safetensors"]
    assert data.model_name == "final"
    results = {result.metric_type: result for result in data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {"val_mse": 0.00123, "val_psnr_db": 35.1}
    assert results["val_mse"].dataset_name == 'layouts of "the | set"'


def test_cells_and_yaml_keep_what_would_break_them() -> None:
    assert cell("a | b\nc <d>") == "a \\| b c &lt;d>"
    assert as_yaml('a "b": c') == '"a \\"b\\": c"'
