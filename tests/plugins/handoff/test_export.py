"""`imginav export`: what it writes, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli
import tomlkit
import torch
from safetensors.torch import load_file
from torch import Tensor

import imginav
from imginav import UserError
from imginav.manifest.structuring import Structurer
from imginav.plugin.checkpoint import load_checkpoint
from imginav.plugin.registry import Registry
from imginav.runs.evaluation_result import load_evaluation
from imginav.training.trainer import Trainer
from imginav_handoff import export as export_module
from imginav_handoff.export import ExportRequest, export
from imginav_handoff.export_folder import check_digests, load_export_record, write_digests
from imginav_handoff.latent_space import load_latent_space
from imginav_handoff.verification import verify
from imginav_reports.deliverables import sha256
from imginav_tests.records import winner
from imginav_tests.weights import same_weights

MakeCheckpoint = Callable[..., Path]
Export = Callable[..., Path]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def exported(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Export:
    """Export a checkpoint; it is verified in this process, which takes no seconds to start."""
    monkeypatch.setattr(export_module, "_verify_afresh", lambda folder: verify(folder, registry, log=lambda _: None))

    def run(checkpoint: Path, to: str = "out", **options: Any) -> Path:
        request = ExportRequest(checkpoint=checkpoint, to=tmp_path / to, **{"format": "safetensors", **options})
        export(request, registry, said.append)
        return tmp_path / to

    return run


def image() -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("variational", ["false", "true"])
def test_an_export_encodes_and_decodes_as_its_checkpoint(
    exported: Export, make_checkpoint: MakeCheckpoint, variational: str
) -> None:
    checkpoint = make_checkpoint(f"encoder.variational={variational}")
    first, second = imginav.load(checkpoint), imginav.load(exported(checkpoint))
    mean, log_variance = first.distribution(image())
    again, log_variance_again = second.distribution(image())
    assert torch.equal(mean, again)
    assert (log_variance is None) == (variational == "false")
    if log_variance is not None and log_variance_again is not None:
        assert torch.equal(log_variance, log_variance_again)
    assert torch.equal(first.decode(mean), second.decode(mean))


def test_an_export_has_all_that_diffusion_needs(exported: Export, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    folder = exported(checkpoint)
    assert sorted(path.name for path in folder.iterdir()) == [
        "2_0_handoff.toml",
        "README.md",
        "SHA256SUMS",
        "autoencoder.safetensors",
        "config.json",
        "decoder.safetensors",
        "encoder.safetensors",
        "evaluation.json",
        "export.json",
        "golden.png",
        "golden.safetensors",
        "latent.json",
        "manifest.toml",
    ]
    assert check_digests(folder) == 12
    weights = load_checkpoint(checkpoint).model
    whole = load_file(folder / "autoencoder.safetensors")
    apart = {
        f"{part}.{name}": tensor
        for part in ("encoder", "decoder")
        for name, tensor in load_file(folder / f"{part}.safetensors").items()
    }
    assert same_weights(weights, whole)
    assert same_weights(weights, apart)
    assert (folder / "manifest.toml").read_text() == load_checkpoint(checkpoint).manifest
    record = load_export_record(folder)
    assert (record.checkpoint, record.checkpoint_sha256) == (checkpoint.name, sha256(checkpoint))
    assert record.weights_sha256 == load_latent_space(folder / "latent.json").weights_sha256
    assert record.golden_layout == "block 0"
    assert list(record.precisions) == ["fp32", "bf16", "fp16"]
    assert not any(measured.fault for measured in record.precisions.values())


def test_the_block_of_phase_2_says_what_a_unet_needs(
    exported: Export, make_checkpoint: MakeCheckpoint, said: list[str]
) -> None:
    checkpoint = make_checkpoint()
    folder = exported(checkpoint)
    text = (folder / "2_0_handoff.toml").read_text()
    assert text in said
    block = tomli.loads(text)
    assert block["unet"] == {"sample_size": 8, "in_channels": 2, "out_channels": 2}
    assert block["controlnet"] == {"conditioning_channels": 3, "conditioning_downsampling": 4}
    assert block["autoencoder"]["latent"]["scaling_factor"] == 1.0  # as imginav.load scales
    assert block["autoencoder"]["latent"]["shift_factor"] == 0.0
    assert "imginav.load scales by itself" in text
    assert block["autoencoder"]["checkpoint"] == str(checkpoint)
    assert block["autoencoder"]["checkpoint_sha256"] == sha256(checkpoint)


def test_a_setting_of_the_decoder_is_exported_and_measured_as_it_is(
    make_checkpoint: MakeCheckpoint, registry: Registry, tmp_path: Path, exported: Export, said: list[str]
) -> None:
    palette = ("decoder.heads.segmentation=false", "decoder.heads.rgb=false", "decoder.heads.palette.type=palette")
    checkpoint = make_checkpoint(*palette, "losses.mse=false", "encoder.base_channels=16")
    mean = exported(checkpoint, "mean", settings=("decoder.heads.palette.colours=mean",))
    assert any("no evaluation of these weights" in line for line in said)
    said.clear()
    likeliest = exported(checkpoint, "likeliest")
    assert not any("no evaluation of these weights" in line for line in said)
    latents = torch.randn(1, 2, 8, 8)
    colours = [len(imginav.load(to).decode(latents).flatten(2)[0].T.unique(dim=0)) for to in (mean, likeliest)]
    assert colours[1] <= 2 < colours[0]
    mse = [load_evaluation(to / "evaluation.json").metrics["val_mse"] for to in (mean, likeliest)]
    assert mse[0] < mse[1]
    assert 'colours = "mean" # --set' in (mean / "manifest.toml").read_text()


def test_the_winners_that_it_rests_on_are_handed_on(exported: Export, make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    checkpoint = load_checkpoint(path)
    lineage = tomlkit.dumps({"lineage": {"1.1": Structurer(Registry()).unstructure(winner())}})
    attrs.evolve(checkpoint, manifest=checkpoint.manifest + lineage).save(path)
    folder = exported(path)
    line = "phase 1.1, L2 won: val_mse 0.0100 against 0.0200 (L1) · rule best val_mse (min)"
    assert load_export_record(folder).lineage == (line,)
    assert f"- {line}" in (folder / "README.md").read_text()


def test_a_tampered_file_is_refused_by_verify_and_by_load(
    exported: Export, make_checkpoint: MakeCheckpoint, registry: Registry
) -> None:
    folder = exported(make_checkpoint())
    verify(folder, registry)
    path = folder / "decoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for open_it in (lambda: verify(folder, registry), lambda: imginav.load(folder)):
        with pytest.raises(UserError, match=r"decoder\.safetensors is not what was written"):
            open_it()


def test_other_weights_with_digests_to_match_are_found_by_the_golden_triple(
    exported: Export, make_checkpoint: MakeCheckpoint, registry: Registry
) -> None:
    folder = exported(make_checkpoint())
    other = exported(make_checkpoint("train.seed=1", name="second"), "other")
    shutil.copy(other / "autoencoder.safetensors", folder)
    write_digests(folder)
    with pytest.raises(UserError, match=r"does not compute what was exported: in fp32, latents are .* off"):
        verify(folder, registry)


@pytest.mark.parametrize(
    ("format_name", "of", "complaint"),
    [
        ("safetensors", "network", "does not compute what was exported"),
        ("safetensors", "stated", "states scaling_factor = 1.01 and shift_factor = 0.0, where 1.0 and 0.0 are left"),
        ("diffusers", "stated", r"states scaling_factor = .+, where .+ and 0.0 are left to apply"),
    ],
)
def test_another_scaling_factor_with_digests_to_match_is_found(
    exported: Export, make_checkpoint: MakeCheckpoint, registry: Registry, format_name: str, of: str, complaint: str
) -> None:
    folder = exported(make_checkpoint(), format=format_name)
    path = folder / "latent.json"
    table = json.loads(path.read_text())
    changed = table["network"] if of == "network" else table
    changed["scaling_factor"] *= 1.01
    path.write_text(json.dumps(table))
    write_digests(folder)
    with pytest.raises(UserError, match=complaint):
        verify(folder, registry)


@pytest.mark.parametrize("format_name", ["safetensors", "diffusers", "onnx", "pt2"])
def test_latents_have_unit_standard_deviation_by_each_text_of_a_folder(
    exported: Export, make_checkpoint: MakeCheckpoint, make_trainer: Callable[..., Trainer], format_name: str
) -> None:
    """They are encoded by the code of the card, and scaled by the factors of each text, as it says."""
    folder = exported(make_checkpoint(), format=format_name)
    latents = encoded_by_the_card(folder, training_layouts(make_trainer()))
    stated = json.loads((folder / "latent.json").read_text())
    block = tomli.loads((folder / "2_0_handoff.toml").read_text())["autoencoder"]["latent"]
    for factors in (stated, block, factors_of_card(folder)):
        scaled = (latents - factors["shift_factor"]) * factors["scaling_factor"]
        assert float(scaled.mean()) == pytest.approx(0, abs=1e-3)
        assert float(scaled.std(correction=0)) == pytest.approx(1, rel=1e-3)
    for channel, (mean, std) in enumerate(zip(stated["means"], stated["stds"], strict=True)):
        # It was measured in the precision of the run, which may be bf16.
        assert float(latents[:, channel].mean()) == pytest.approx(mean, abs=0.005)
        assert float(latents[:, channel].std(correction=0)) == pytest.approx(std, rel=0.005)


def test_latents_that_a_card_draws_have_unit_standard_deviation_as_well(
    exported: Export, make_checkpoint: MakeCheckpoint, make_trainer: Callable[..., Trainer]
) -> None:
    folder = exported(make_checkpoint("encoder.variational=true"), format="diffusers")
    layouts = training_layouts(make_trainer())
    torch.manual_seed(0)
    latents = encoded_by_the_card(folder, layouts.repeat(8, 1, 1, 1))
    factors = factors_of_card(folder)
    scaled = (latents - factors["shift_factor"]) * factors["scaling_factor"]
    assert float(scaled.mean()) == pytest.approx(0, abs=0.02)
    assert float(scaled.std()) == pytest.approx(1, rel=0.02)


def training_layouts(trainer: Trainer) -> Tensor:
    batches = trainer.data.whole_batches(trainer.data.split.train)
    return torch.cat([trainer.device.images(loaded.layouts) for loaded in batches])


def encoded_by_the_card(folder: Path, images: Tensor) -> Tensor:
    """Return the `latents` of the card's code."""
    _, _, code = (folder / "README.md").read_text().partition("```python\n")
    code, _, _ = code.partition("```")
    names: dict[str, Any] = {"images": images.numpy() if "onnx" in code else images}
    with torch.no_grad():
        exec(code, names)  # noqa: S102  # it is what a reader would do
    return torch.as_tensor(names["latents"])


def factors_of_card(folder: Path) -> dict[str, float]:
    card = (folder / "README.md").read_text()
    found = re.findall(r"^\| (scaling|shift) factor \| (.+) \|$", card, re.MULTILINE)
    return {f"{name}_factor": float(value) for name, value in found}


def test_a_precision_that_was_unusable_on_exporting_is_no_new_fault(
    exported: Export, make_checkpoint: MakeCheckpoint, registry: Registry
) -> None:
    checkpoint = make_checkpoint()
    held = load_checkpoint(checkpoint)
    # Inside, it exceeds what fp16 holds; the next norm makes up for it.
    name = next(name for name in held.model if name.startswith("encoder") and held.model[name].dim() == 4)
    large = {**held.model, name: held.model[name] * 1e6}
    attrs.evolve(held, model=large).save(checkpoint)
    (checkpoint.parent / "evaluation.json").unlink()
    folder = exported(checkpoint)
    fault = load_export_record(folder).precisions["fp16"].fault
    assert "inf in float16" in fault or "nan in float16" in fault
    assert not load_export_record(folder).precisions["fp32"].fault
    lines: list[str] = []
    verify(folder, registry, log=lines.append)
    assert any("fp16" in line and "cannot be used" in line and "as on exporting" in line for line in lines)
    assert f"It cannot be used in fp16: {fault}." in (folder / "README.md").read_text()


def test_without_an_evaluation_it_is_measured_first_and_kept(
    exported: Export, make_checkpoint: MakeCheckpoint, said: list[str]
) -> None:
    checkpoint = make_checkpoint(evaluated=False)
    folder = exported(checkpoint)
    assert any("no evaluation of these weights over all training layouts" in line for line in said)
    assert (checkpoint.parent / "tiny_checkpoint_best_evaluation_whole" / "report.html").is_file()
    assert load_latent_space(folder / "latent.json").layouts == 12
    said.clear()
    exported(checkpoint, "again")
    assert not any("no evaluation" in line for line in said)
    assert imginav.load(checkpoint).latent == imginav.load(folder).latent


def test_statistics_of_a_part_of_the_split_are_not_handed_on(exported: Export, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint("evaluation.latent_layouts=4")
    assert load_latent_space(exported(checkpoint) / "latent.json").layouts == 12


def test_an_earlier_export_is_moved_aside(exported: Export, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    before = (exported(checkpoint) / "export.json").read_text()
    exported(checkpoint)
    assert (tmp_path / "out.1" / "export.json").read_text() == before
    check_digests(tmp_path / "out")


def test_a_place_that_holds_something_else_is_refused(
    exported: Export, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    checkpoint = make_checkpoint()
    exported(checkpoint)  # an empty one is taken
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"mine: is there already, and is no export; name another folder"):
        exported(checkpoint, "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_nothing_is_left_where_it_cannot_be_verified(
    exported: Export, make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(folder: Path) -> None:
        raise UserError("not the same")

    monkeypatch.setattr(export_module, "_verify_afresh", refuse)
    checkpoint = make_checkpoint()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="not the same"):
        exported(checkpoint)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_killed_export_has_left_is_removed_by_a_later_one_and_what_another_writes_is_not(
    exported: Export, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint()
    old, now = tmp_path / ".out.old.part", tmp_path / ".out.now.part"
    for folder in (old, now):
        folder.mkdir()
        (folder / "encoder.safetensors").write_text("half of it")
    os.utime(old, (1, 1))
    exported(checkpoint)
    assert not old.exists()
    assert now.exists()


def test_an_unknown_format_names_the_installed_ones(exported: Export, make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(UserError, match=r"--format onx: no exporter 'onx' is installed, did you mean 'onnx'"):
        exported(make_checkpoint(), format="onx")


def test_what_a_format_lacks_is_said_before_anything_is_measured(
    exported: Export, make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    checkpoint = make_checkpoint(evaluated=False)
    with pytest.raises(UserError, match="--format onnx needs the extra onnx"):
        exported(checkpoint, format="onnx")
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_an_autoencoder_without_images_is_refused(exported: Export, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint("decoder.heads.rgb=false", "losses.mse=false")
    with pytest.raises(UserError, match="has no output rgb"):
        exported(checkpoint)
