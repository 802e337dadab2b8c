"""`imginav starter`: a pipeline of diffusers around an autoencoder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, DiffusionPipeline
from huggingface_hub import ModelCard

from imginav import DataSpec, UserError
from imginav.plugin.registry import Registry, installed
from imginav_diffusers import ImginavAutoencoder
from imginav_diffusers.autoencoder import CLASS_FILE
from imginav_diffusers.conditioning import conditioning_channels
from imginav_diffusers.trained import latent_of
from imginav_exporters import DiffusersExporter
from imginav_handoff import export as export_module
from imginav_handoff.verification import verify
from imginav_starter import commands, starter
from imginav_starter.networks import PIPELINES
from imginav_starter.sizes import SIZES
from imginav_starter.starter import StarterRequest, write_starter
from imginav_starter.text import TOKENS, clip_tokenizer, t5_tokenizer
from imginav_tests.trained import trained_autoencoder

Write = Callable[..., Path]


@pytest.fixture
def vae(spec: DataSpec, tmp_path: Path) -> Path:
    """A model of diffusers, as diffusers or export would have written it: 32 px, latents of 8×8×4."""
    trained = trained_autoencoder(installed(), spec, "residual", {"palette": {"type": "palette"}})
    (tmp_path / "vae").mkdir()
    DiffusersExporter().write(trained, tmp_path / "vae")
    return tmp_path / "vae"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def write(vae: Path, tmp_path: Path, registry: Registry, said: list[str]) -> Write:
    def run(pipeline: str = "stable-diffusion", **changes: Any) -> Path:
        request = StarterRequest(model=vae, to=tmp_path / "starter", pipeline=pipeline, size="tiny")
        request = attrs.evolve(request, **changes)
        write_starter(request, registry, said.append)
        return request.to

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_of_it_runs(write: Write, said: list[str], name: str, spec: DataSpec) -> None:
    folder = write(name)
    pipeline: Any = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    network = pipeline.components.get("unet", pipeline.components.get("transformer"))
    assert network.config.in_channels == 4 * (4 if name == "flux" else 1)
    assert getattr(network.config, "sample_size", 8) == 8
    given = {"class_labels": [0]} if name == "dit" else {"prompt": "a room", "height": 32, "width": 32}
    image = pipeline(**given, num_inference_steps=2, generator=torch.manual_seed(0), output_type="np").images[0]
    assert image.shape == (32, 32, 3)
    colours = np.array(spec.palette.colours)
    assert np.abs(image.reshape(-1, 1, 3) * 255 - colours).sum(axis=2).min(axis=1).max() < 2  # it is the palette's
    assert (folder / "controlnet" / "config.json").is_file() == (name != "dit")
    assert any(line.startswith(f"{folder}: {name} for latents of 8×8×4 (H×W×C)") for line in said)


@pytest.mark.parametrize("name", ["stable-diffusion", "stable-diffusion-xl"])
def test_its_controlnet_brings_conditions_down_to_the_latent(write: Write, name: str) -> None:
    folder = write(name)
    controlnet = ControlNetModel.from_pretrained(folder / "controlnet")
    with torch.no_grad():
        assert controlnet.controlnet_cond_embedding(torch.zeros(1, 3, 32, 32)).shape[2:] == (8, 8)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_its_adapter_fits_the_unet(vae: Path, size: str) -> None:
    model: Any = ImginavAutoencoder.from_pretrained(vae)
    networks = PIPELINES["stable-diffusion-xl"](model, latent_of(model), SIZES[size])
    features = networks.beside["t2i_adapter"](torch.zeros(1, 3, 32, 32))
    unet = networks.pipeline.unet
    with torch.no_grad():
        given = {"text_embeds": torch.zeros(1, SIZES[size].text), "time_ids": torch.zeros(1, 6)}
        text = torch.zeros(1, 3, 2 * SIZES[size].text)
        latents = torch.zeros(1, 4, 8, 8)
        added = unet(latents, 0, text, added_cond_kwargs=given, down_intrablock_additional_residuals=list(features))
        alone = unet(latents, 0, text, added_cond_kwargs=given)
    assert not torch.equal(added.sample, alone.sample)


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16, 32, 64])
def test_conditions_are_brought_down_by_any_factor(factor: int) -> None:
    channels = conditioning_channels(factor)
    assert 2 ** (len(channels) - 1) == factor
    assert channels[-1] == 256
    assert list(channels) == sorted(channels)
    assert factor != 8 or channels == (16, 32, 96, 256)  # that of diffusers


def test_the_same_seed_gives_the_same_weights(write: Write, tmp_path: Path) -> None:
    folders = [write("dit", to=tmp_path / str(number), seed=seed) for number, seed in enumerate((3, 3, 4))]
    weights = [(folder / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize(("side", "levels"), [(32, 3), (8, 3), (6, 2), (7, 1), (1, 1)])
def test_a_unet_has_as_many_levels_as_its_latent_can_be_halved(side: int, levels: int) -> None:
    assert SIZES["small"].levels(side) == SIZES["small"].unet[:levels]


def test_captions_are_told_apart_byte_by_byte() -> None:
    tokenizer: Any = clip_tokenizer()
    options = {"padding": "max_length", "truncation": True, "max_length": tokenizer.model_max_length}
    rows = tokenizer(["a room", "a rooms", "räume 図", "a" * 90], **options).input_ids
    assert {len(row) for row in rows} == {TOKENS}
    assert len({tuple(row) for row in rows}) == 4
    assert tokenizer.decode(rows[2], skip_special_tokens=True).strip() == "räume 図"
    assert rows[0][0] == tokenizer.bos_token_id
    assert rows[0][-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token_id not in rows[3][1:-1]


def test_t5_takes_captions_character_by_character() -> None:
    tokenizer: Any = t5_tokenizer()
    ids = tokenizer("a room").input_ids
    assert len(ids) == len("▁a▁room") + 1
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a room"


def test_its_card_says_what_is_trained_and_how_to_go_on(write: Write, tmp_path: Path) -> None:
    folder = write()
    card = ModelCard((folder / "README.md").read_text())
    assert (card.data.license, card.data.library_name) == ("cc0-1.0", "diffusers")
    assert "**Only the autoencoder is trained.**" in card.content
    assert f"--pretrained_model_name_or_path {folder} --resolution 32" in card.content
    assert "conditioning embedding for 1/4 of the image" in card.content
    assert "CC0" in (folder / "LICENSE").read_text()
    labels = (write("dit", to=tmp_path / "dit") / "README.md").read_text()
    assert "by number: 0 room, 1 scene." in labels


def test_the_commands_take_what_there_is() -> None:
    assert set(PIPELINES) == set(commands.PIPELINES)
    assert set(SIZES) == set(commands.SIZES)
    assert starter.CLASS_FILE == CLASS_FILE
    assert set(starter.WITHOUT_TEXT) <= set(PIPELINES)


@pytest.mark.slow
def test_of_a_checkpoint_its_autoencoder_is_a_verified_export(
    write: Write, make_checkpoint: Callable[..., Path], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "_verify_afresh", lambda folder: verify(folder, registry, log=lambda _: None))
    folder = write("dit", model=make_checkpoint())
    verify(folder / "vae", registry, log=lambda _: None)
    assert f'from_pretrained("{folder / "vae"}")' in (folder / "vae" / "README.md").read_text()
    index = json.loads((folder / "model_index.json").read_text())
    assert index["vae"] == ["imginav_diffusers", "ImginavAutoencoder"]


def test_a_place_that_is_taken_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "starter").mkdir()
    (tmp_path / "starter" / "mine").touch()
    with pytest.raises(UserError, match=r"--to .*starter: is there already; name another folder"):
        write()


def test_a_folder_of_another_format_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"--model .*other: holds no autoencoder as a model of diffusers; export the"):
        write(model=tmp_path / "other")


def test_an_export_that_pipelines_could_not_load_is_refused(write: Write, vae: Path) -> None:
    (vae / "imginav_diffusers.py").unlink()
    with pytest.raises(UserError, match=r"has no imginav_diffusers\.py, as an earlier version wrote it; export the"):
        write("dit")


def test_without_transformers_it_says_what_to_install(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    with pytest.raises(UserError, match=r"--pipeline flux needs the library transformers \(.+\); install it: pip"):
        write("flux")
    write("dit")  # which has no text


def test_nothing_is_left_where_it_cannot_be_written(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(starter, "_write_networks", full)
    with pytest.raises(UserError, match=r"--to .*starter: cannot be written: No space left on device; name"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["vae"]
