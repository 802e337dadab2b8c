"""Encoder and decoder as graphs, of any batch and size."""

from __future__ import annotations

import builtins
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

from imginav import Exporter, Pretrained, TrainedAutoencoder, UserError
from imginav_exporters import OnnxExporter, Pt2Exporter

MakeTrained = Callable[..., TrainedAutoencoder]

SHAPES = ((1, 32, 32), (3, 64, 32), (2, 12, 40))
"""Batch, height and width, none of them what a graph is traced with."""

NETWORKS = [
    {"kind": "residual", "head": "palette", "variational": False},
    {"kind": "conv", "head": "rgb", "variational": True},
]

EXPORTERS = [OnnxExporter(), Pt2Exporter()]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: str(network["kind"]))
@pytest.mark.parametrize("exporter", EXPORTERS, ids=lambda exporter: type(exporter).__name__)
def test_graphs_compute_what_the_network_does_at_any_batch_and_size(
    make_trained: MakeTrained, tmp_path: Path, exporter: Exporter, network: dict[str, Any]
) -> None:
    trained = make_trained(**network)
    exporter.write(trained, tmp_path)
    encoder, decoder = exporter.open(tmp_path, trained.latent)
    # None of the other side's weights lie in a file.
    largest = max(path.stat().st_size for path in tmp_path.iterdir())
    assert largest < 0.8 * 4 * sum(p.numel() for p in trained.autoencoder.parameters()) + 150_000
    generator = torch.Generator().manual_seed(1)
    for batch, height, width in SHAPES:
        images = torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
        with torch.inference_mode():
            expected = trained.encoder(images)
            found = encoder(images)
            assert len(found) == len(expected) == 1 + trained.latent.variational
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
            rebuilt, again = trained.decoder(expected[0]), decoder(expected[0])
        assert again.shape == (batch, 3, height, width)
        assert float(((rebuilt - again).abs() > 1e-3).float().mean()) < 1e-3


@pytest.mark.slow
def test_an_onnx_graph_is_run_by_others_by_its_names_and_says_how(make_trained: MakeTrained, tmp_path: Path) -> None:
    trained = make_trained(variational=True)
    OnnxExporter().write(trained, tmp_path)
    for part in ("encoder", "decoder"):
        model = onnx.load(tmp_path / f"{part}.onnx")
        onnx.checker.check_model(model, full_check=True)
        said = {entry.key: entry.value for entry in model.metadata_props}
        assert said["imginav.scaling_factor"] == "1.7"
        assert said["imginav.latents"].startswith("scaled")
        assert said["imginav.downsampling_factor"] == "4"
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    images = torch.zeros(1, 3, 64, 32)
    mean, log_variance = session.run(["latents", "log_variance"], {"images": images.numpy()})
    expected = trained.encoder(images)
    torch.testing.assert_close(torch.from_numpy(mean), expected[0].detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(log_variance), expected[1].detach(), atol=1e-4, rtol=1e-4)
    decoder = onnxruntime.InferenceSession(tmp_path / "decoder.onnx", providers=["CPUExecutionProvider"])
    (decoded,) = decoder.run(["images"], {"latents": mean})
    assert decoded.shape == (1, 3, 64, 32)


def test_a_pretrained_one_may_be_made_of_graphs(make_trained: MakeTrained, tmp_path: Path) -> None:
    trained = make_trained()
    exporter = Pt2Exporter()
    exporter.write(trained, tmp_path)
    pretrained = Pretrained(*exporter.open(tmp_path, trained.latent), trained.latent).eval()
    images = torch.zeros(1, 3, 32, 32)
    expected = Pretrained(trained.encoder, trained.decoder, trained.latent).encode(images)
    torch.testing.assert_close(pretrained.encode(images), expected)
    assert pretrained.decode(expected).shape == images.shape


class DependsOnWhatItSees(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (images[:, :, ::4, ::4] if float(images.sum()) > 1 else images[:, :, 1::4, 1::4],)


@pytest.mark.parametrize(("exporter", "name"), list(zip(EXPORTERS, ("onnx", "pt2"), strict=True)))
def test_a_network_that_is_no_graph_is_refused(
    make_trained: MakeTrained, tmp_path: Path, exporter: Exporter, name: str
) -> None:
    trained = evolve(make_trained(), encoder=DependsOnWhatItSees())
    with pytest.raises(UserError, match=rf"--format {name}: the encoder cannot be made a graph .*; take --format saf"):
        exporter.write(trained, tmp_path)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04" + bytes(100)])
@pytest.mark.parametrize(("exporter", "suffix"), list(zip(EXPORTERS, ("onnx", "pt2"), strict=True)))
def test_a_damaged_file_is_refused(
    make_trained: MakeTrained, tmp_path: Path, exporter: Exporter, suffix: str, content: bytes
) -> None:
    for part in ("encoder", "decoder"):
        (tmp_path / f"{part}.{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=rf"encoder\.{suffix}: cannot be loaded .*; export it again"):
        exporter.open(tmp_path, make_trained().latent)


class Code:
    """What makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (io.open, (str(self._marker), "w"))  # open itself is not found by its module


@pytest.mark.parametrize("where", ["sample inputs", "a weight", "an object"])
def test_nothing_in_an_archive_of_torch_is_executed(make_trained: MakeTrained, tmp_path: Path, where: str) -> None:
    trained = make_trained()
    Pt2Exporter().write(trained, tmp_path)
    path, marker = tmp_path / "encoder.pt2", tmp_path / "executed"
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    code = pickle.dumps(Code(marker))
    if where == "sample inputs":
        contents[next(name for name in contents if name.endswith("sample_inputs/model.pt"))] = code
    elif where == "a weight":
        config = next(name for name in contents if name.endswith("weights_config.json"))
        contents[config] = contents[config].replace(b'"use_pickle": false', b'"use_pickle": true', 1)
        contents[next(name for name in contents if name.endswith("weights/weight_0"))] = code
    else:
        config = next(name for name in contents if name.endswith("constants_config.json"))
        payload = b'{"config": {"x": {"path_name": "opaque_obj_0", "is_param": false, "use_pickle": false}}}'
        contents[config] = payload
        contents[config.replace("model_constants_config.json", "opaque_obj_0")] = code
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=r"encoder\.pt2: cannot be loaded"):
        Pt2Exporter().open(tmp_path, trained.latent)
    assert not marker.exists()


def test_without_the_extra_it_is_named(
    make_trained: MakeTrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] in ("onnx", "onnxruntime"):
            raise ImportError(f"No module named {name!r}")
        return original(name, *arguments, **keywords)

    trained = make_trained()
    monkeypatch.setattr(builtins, "__import__", refuse)
    exporter = OnnxExporter()
    for act in (
        exporter.check,
        lambda: exporter.write(trained, tmp_path),
        lambda: exporter.open(tmp_path, trained.latent),
    ):
        with pytest.raises(UserError, match=r"--format onnx needs the extra onnx .*pip install .*\.\[onnx\]"):
            act()
