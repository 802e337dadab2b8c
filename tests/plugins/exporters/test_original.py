"""Autoencoders as the original project's code loads them; a stand-in for that code is in imginav_tests/original."""

from __future__ import annotations

import importlib
import json
import pickle
import re
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli
import torch
import yaml
from attrs import evolve
from torch import Tensor

import imginav
from imginav import DataSpec, TrainedAutoencoder, UserError
from imginav.plugin.registry import Registry, installed
from imginav_exporters import OriginalExporter
from imginav_handoff import export as export_module
from imginav_handoff import network_source
from imginav_handoff.export import ExportRequest, export
from imginav_handoff.export_folder import write_digests
from imginav_handoff.network_source import CannotTraceError
from imginav_handoff.verification import verify
from imginav_tests.original_code import ROOT, forget_original_code, use_original_code
from imginav_tests.pickled_code import Code
from imginav_tests.trained import trained_autoencoder

MakeTrained = Callable[..., TrainedAutoencoder]
MakeCheckpoint = Callable[..., Path]

SHIFT = 0.2 * 1.7
"""What the original's latents are larger by than imginav's scaled ones: the shift of `trained_autoencoder`, scaled."""

CONV = {"kind": "conv", "head": "rgb"}


@pytest.fixture(autouse=True)
def _original_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use_original_code(monkeypatch)
    yield
    forget_original_code()


def load(folder: Path, *, adapter: bool = False) -> Any:
    """Return the autoencoder of an export, by the original's code."""
    if adapter:
        sys.path.insert(0, str(folder))
        importlib.import_module("imginav_original")
    from models.autoencoder import Autoencoder

    return Autoencoder.load_checkpoint(folder / "autoencoder.pt").eval()


def images(seed: int = 1) -> Tensor:
    return torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
def assert_the_same(autoencoder: Any, trained: TrainedAutoencoder) -> None:
    encoded = autoencoder.encode(images())
    expected = trained.encoder(images())
    latents = encoded["mu" if trained.latent.variational else "latent"]
    torch.testing.assert_close(latents, expected[0] + SHIFT, atol=1e-5, rtol=1e-5)
    if trained.latent.variational:
        torch.testing.assert_close(encoded["logvar"], expected[1], atol=1e-5, rtol=1e-5)
    decoded = autoencoder.decode(latents)["rgb"]
    torch.testing.assert_close(decoded, trained.decoder(expected[0]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variational", [False, True])
def test_conv_loads_by_other_names_alone(make_trained: MakeTrained, tmp_path: Path, *, variational: bool) -> None:
    trained = make_trained(**CONV, variational=variational)
    OriginalExporter().write(trained, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["autoencoder.pt", "original.yaml"]
    autoencoder = load(tmp_path)
    assert_the_same(autoencoder, trained)
    own = [tensor for _, tensor in sorted(trained.autoencoder.state_dict().items())]
    theirs = list(autoencoder.state_dict().values())
    assert len(own) == len(theirs)
    changed = [tensor for tensor in own if not any(torch.equal(tensor, other) for other in theirs)]
    assert len(changed) == (4 if variational else 3)  # those that the scaling factor is in


def test_heads_that_diffusion_does_not_decode_by_are_left_out(spec: DataSpec, tmp_path: Path) -> None:
    heads = {name: {"type": name} for name in ("classification", "rgb", "segmentation")}
    trained = trained_autoencoder(installed(), spec, "conv", heads)
    OriginalExporter().write(trained, tmp_path)
    autoencoder = load(tmp_path)
    assert list(autoencoder.decoder.heads) == ["rgb"]
    assert_the_same(autoencoder, trained)
    encoder, decoder = OriginalExporter().open(tmp_path, trained.latent)
    with torch.no_grad():
        torch.testing.assert_close(decoder(encoder(images())[0]), trained.decoder(trained.encoder(images())[0]))


def test_another_network_is_refused_loudly_wherever_it_is_loaded(make_trained: MakeTrained, tmp_path: Path) -> None:
    OriginalExporter().write(make_trained(), tmp_path)
    from models.autoencoder import Autoencoder
    from models.decoder import Decoder
    from models.encoder import Encoder

    for part in (Autoencoder, Encoder, Decoder):  # the last two take any weights, and would go on with random ones
        with pytest.raises(AttributeError, match=r"this is a network of imginav.*import imginav_original\.py"):
            part.load_checkpoint(tmp_path / "autoencoder.pt")


@pytest.mark.parametrize("variational", [False, True])
def test_another_network_loads_by_the_adapter(make_trained: MakeTrained, tmp_path: Path, *, variational: bool) -> None:
    trained = make_trained(variational=variational)
    OriginalExporter().write(trained, tmp_path)
    autoencoder = load(tmp_path, adapter=True)
    assert_the_same(autoencoder, trained)
    assert autoencoder.encoder.variational is variational
    if variational:
        encoded = autoencoder.encode(images())
        torch.manual_seed(0)
        decoded = autoencoder.decode(encoded)["rgb"]
        torch.manual_seed(0)
        drawn = encoded["mu"] + torch.exp(0.5 * encoded["logvar"]) * torch.randn_like(encoded["mu"])
        torch.testing.assert_close(decoded, trained.decoder(drawn - SHIFT), atol=1e-5, rtol=1e-5)
    autoencoder.decoder.freeze()
    assert not any(parameter.requires_grad for parameter in autoencoder.decoder.parameters())
    autoencoder.save_checkpoint(tmp_path / "autoencoder.pt")
    assert_the_same(load(tmp_path), trained)


def test_with_the_adapter_the_original_builds_its_own_networks_as_before(
    make_trained: MakeTrained, tmp_path: Path
) -> None:
    conv, other = make_trained(**CONV), make_trained()
    for name, trained in (("conv", conv), ("other", other)):
        (tmp_path / name).mkdir()
        OriginalExporter().write(trained, tmp_path / name)
    load(tmp_path / "other", adapter=True)
    autoencoder = load(tmp_path / "conv")
    assert type(autoencoder.encoder).__name__ == "Encoder"
    assert_the_same(autoencoder, conv)


def test_a_diffusion_model_keeps_the_decoder_or_is_refused(make_trained: MakeTrained, tmp_path: Path) -> None:
    trained = make_trained()
    OriginalExporter().write(trained, tmp_path)
    load(tmp_path, adapter=True)
    from models.diffusion import DiffusionModel

    config = yaml.safe_load((tmp_path / "original.yaml").read_text())
    assert config["scale_factor"] == 1.0
    assert config["autoencoder"] == {"checkpoint": str(tmp_path / "autoencoder.pt"), "frozen": True}
    model = DiffusionModel(**config)
    latents = torch.randn(1, 4, 8, 8)
    decoded = model.eval().images(latents)
    torch.testing.assert_close(decoded, trained.decoder(latents - SHIFT), atol=1e-4, rtol=1e-4)
    model.save_checkpoint(tmp_path / "diffusion.pt")
    assert torch.equal(DiffusionModel.load_checkpoint(tmp_path / "diffusion.pt").eval().images(latents), decoded)
    forget_original_code()
    from models.diffusion import DiffusionModel as Afresh

    with pytest.raises(AttributeError, match="this is a network of imginav"):
        Afresh.load_checkpoint(tmp_path / "diffusion.pt")


def test_the_adapter_says_where_it_is_to_be_started(
    make_trained: MakeTrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OriginalExporter().write(make_trained(), tmp_path)
    adapter = str(tmp_path / "imginav_original.py")
    monkeypatch.setattr(sys, "argv", [adapter])
    with pytest.raises(SystemExit, match=r"usage: python .*imginav_original\.py SCRIPT \[ARGUMENT \.\.\.\]"):
        runpy.run_path(adapter, run_name="__main__")
    forget_original_code()
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(ROOT)])
    with pytest.raises(
        ImportError, match=r"imginav_original\.py needs the original code, of which Python finds no models"
    ):
        runpy.run_path(adapter)


def test_the_adapter_brings_the_network_with_it(
    make_trained: MakeTrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = make_trained()
    OriginalExporter().write(trained, tmp_path)
    assert "imginav need not be installed." in (tmp_path / "imginav_original.py").read_text()
    with monkeypatch.context() as without:
        for name in [name for name in sys.modules if name.partition(".")[0].startswith("imginav")]:
            if not name.startswith("imginav_tests"):
                without.setitem(sys.modules, name, None)
        autoencoder = load(tmp_path, adapter=True)
    assert_the_same(autoencoder, trained)


def test_the_adapter_of_another_network_is_refused(make_trained: MakeTrained, tmp_path: Path) -> None:
    for name, variational in (("one", False), ("other", True)):
        (tmp_path / name).mkdir()
        OriginalExporter().write(make_trained(variational=variational), tmp_path / name)
    shutil.copy(tmp_path / "one" / "imginav_original.py", tmp_path / "other")
    with pytest.raises(ValueError, match=r"imginav_original\.py is of another autoencoder than the checkpoint; take"):
        load(tmp_path / "other", adapter=True)


def test_for_a_network_that_cannot_be_traced_the_adapter_asks_imginav(
    make_trained: MakeTrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object) -> str:
        raise CannotTraceError("it decides by values")

    monkeypatch.setattr(network_source, "network_source", refused)
    trained = make_trained()
    OriginalExporter().write(trained, tmp_path)
    assert "imginav must be installed" in (tmp_path / "imginav_original.py").read_text()
    assert_the_same(load(tmp_path, adapter=True), trained)
    forget_original_code()
    monkeypatch.setitem(sys.modules, "imginav_handoff.architecture", None)
    with pytest.raises(ImportError, match=r"imginav_original\.py needs imginav, and Python finds no imginav_handoff"):
        load(tmp_path, adapter=True)


@pytest.mark.parametrize("network", [CONV, {**CONV, "variational": True}, {}], ids=["conv", "variational", "residual"])
def test_the_card_says_how_to_load_it(make_trained: MakeTrained, tmp_path: Path, network: dict[str, Any]) -> None:
    trained = make_trained(**network)
    OriginalExporter().write(trained, tmp_path)
    names: dict[str, Any] = {"images": images()}
    with torch.no_grad():
        exec(OriginalExporter().how_to_load(str(tmp_path)), names)  # noqa: S102  # it is what a reader would do
        torch.testing.assert_close(names["latents"], trained.encoder(images())[0] + SHIFT, atol=1e-5, rtol=1e-5)
        expected = trained.decoder(trained.encoder(images())[0])
    torch.testing.assert_close(names["images"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("network", [CONV, {**CONV, "variational": True}, {}], ids=["conv", "variational", "residual"])
def test_imginav_opens_it_again(make_trained: MakeTrained, tmp_path: Path, network: dict[str, Any]) -> None:
    trained = make_trained(**network)
    OriginalExporter().write(trained, tmp_path)
    encoder, decoder = OriginalExporter().open(tmp_path, trained.latent)
    with torch.no_grad():
        found, expected = encoder(images()), trained.encoder(images())
        assert len(found) == len(expected) == 1 + trained.latent.variational
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(decoder(expected[0]), trained.decoder(expected[0]), atol=1e-5, rtol=1e-5)


def test_a_damaged_checkpoint_is_refused_and_none_is_executed(make_trained: MakeTrained, tmp_path: Path) -> None:
    trained = make_trained(**CONV)
    OriginalExporter().write(trained, tmp_path)
    path = tmp_path / "autoencoder.pt"
    payload = torch.load(path, weights_only=True)

    def refused(message: str) -> None:
        with pytest.raises(UserError, match=message):
            OriginalExporter().open(tmp_path, trained.latent)

    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    refused(r"autoencoder\.pt: cannot be loaded \(.*\); export it again")
    path.write_bytes(pickle.dumps(Code(tmp_path / "executed"), protocol=2))
    refused("cannot be loaded")
    assert not (tmp_path / "executed").exists()
    torch.save({name: payload[name] for name in ("state_dict", "config")}, path)
    refused("cannot be loaded .*imginav")
    del payload["state_dict"]["encoder.latent_proj.bias"]
    torch.save(payload, path)
    refused(r"has no weights 'encoder\.latent_proj\.bias'; export it again")
    path.unlink()
    refused("No such file")


@pytest.fixture
def exported(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Export a checkpoint; it is verified in this process, which takes no seconds to start."""
    monkeypatch.setattr(export_module, "_verify_afresh", lambda folder: verify(folder, registry, log=lambda _: None))

    def run(checkpoint: Path, to: str = "out") -> Path:
        export(ExportRequest(checkpoint=checkpoint, to=tmp_path / to, format="original"), registry, lambda _: None)
        return tmp_path / to

    return run


PALETTE = ("decoder.heads.segmentation=false", "decoder.heads.rgb=false", "decoder.heads.palette.type=palette")
RESIDUAL = ("encoder.type=residual", "decoder.type=residual", "losses.mse=false", *PALETTE)


@pytest.mark.parametrize("settings", [("decoder.base_channels=32",), RESIDUAL], ids=["conv", "residual"])
def test_an_export_is_verified_loads_and_says_where_it_is(
    exported: Callable[..., Path], make_checkpoint: MakeCheckpoint, registry: Registry, settings: tuple[str, ...]
) -> None:
    checkpoint = make_checkpoint(*settings)
    folder = exported(checkpoint)
    adapter = folder / "imginav_original.py"
    assert adapter.exists() == (settings == RESIDUAL)
    text = (folder / "original.yaml").read_text()
    assert yaml.safe_load(text)["autoencoder"]["checkpoint"] == str(folder / "autoencoder.pt")
    assert yaml.safe_load(text)["unet"] == {"in_channels": 2, "out_channels": 2}
    assert (f'# python "{adapter}" training/train_diffusion.py' in text) == adapter.exists()
    card = (folder / "README.md").read_text()
    assert f'Autoencoder.load_checkpoint("{folder}/autoencoder.pt")' in card
    assert "does not shift, as the original code has none: its scale_factor is 1.0" in card
    stated = tomli.loads((folder / "2_0_handoff.toml").read_text())["autoencoder"]["latent"]
    autoencoder, pretrained = load(folder, adapter=adapter.exists()), imginav.load(checkpoint)
    shift = pretrained.latent.shift_factor * pretrained.latent.scaling_factor
    with torch.no_grad():
        latents = autoencoder.encode(images())["latent"]
        torch.testing.assert_close(latents, pretrained.encode(images()) + shift, atol=1e-4, rtol=1e-4)
        scaled = (latents - stated["shift_factor"]) * stated["scaling_factor"]
        torch.testing.assert_close(scaled, pretrained.encode(images()), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(autoencoder.decode(latents)["rgb"], pretrained(images()), atol=1e-4, rtol=1e-4)
    verify(folder, registry, log=lambda _: None)
    path = folder / "autoencoder.pt"
    payload = torch.load(path, weights_only=True)
    payload["state_dict"] = {name: tensor * 1.2 for name, tensor in payload["state_dict"].items()}
    torch.save(payload, path)
    with pytest.raises(UserError, match=r"autoencoder\.pt is not what was written"):
        verify(folder, registry)
    write_digests(folder)
    with pytest.raises(UserError, match="does not compute what was exported"):
        verify(folder, registry)


def test_what_stands_in_a_checkpoint_is_plain(make_trained: MakeTrained, tmp_path: Path) -> None:
    trained = make_trained()
    OriginalExporter().write(evolve(trained, destination=Path("/elsewhere/handoff")), tmp_path)
    payload = torch.load(tmp_path / "autoencoder.pt", weights_only=True)
    assert set(payload) == {"state_dict", "config", "imginav"}
    assert json.loads(json.dumps(payload["config"])) == payload["config"]
    assert payload["config"]["encoder"]["downsampling_steps"] == payload["config"]["decoder"]["upsampling_steps"] == 2
    assert re.search(r'checkpoint: "/elsewhere/handoff/autoencoder\.pt"', (tmp_path / "original.yaml").read_text())
