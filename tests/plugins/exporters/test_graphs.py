"""Encoder and decoder as graphs, of any batch and size."""

from __future__ import annotations

import builtins
import logging
import math
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

import imginav
from imginav import Exporter, Pretrained, TrainedAutoencoder, UserError
from imginav_exporters import OnnxExporter, Pt2Exporter
from imginav_exporters.onnx_session import OnnxModule
from imginav_handoff import pretrained as handoff
from imginav_tests.pickled_code import Code

MakeTrained = Callable[..., TrainedAutoencoder]
Exported = Callable[..., tuple[TrainedAutoencoder, Path]]

SHAPES = ((1, 32, 32), (3, 64, 32), (2, 12, 40), (1, 4, 4), (2, 4, 20), (1, 128, 128))
"""Batch, height and width, none of them what a graph is traced with."""

NETWORKS = [
    {"kind": "residual", "head": "palette", "variational": False},
    {"kind": "conv", "head": "rgb", "variational": True},
]

EXPORTERS = [OnnxExporter(), Pt2Exporter()]
FORMATS = [pytest.param(exporter, name, id=name) for exporter, name in zip(EXPORTERS, ("onnx", "pt2"), strict=True)]


@pytest.fixture(scope="module")
def folders() -> dict[str, Path]:
    """What was exported already, which takes seconds; autoencoders of the same shape have the same weights."""
    return {}


@pytest.fixture
def exported(make_trained: MakeTrained, tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> Exported:
    """Return an autoencoder and a folder that it was exported to, in which nobody changes anything."""

    def export(exporter: Exporter, **network: Any) -> tuple[TrainedAutoencoder, Path]:
        trained = make_trained(**network)
        key = repr((exporter, network))
        if key not in folders:
            folder = tmp_path_factory.mktemp("export")
            exporter.write(trained, folder)
            folders[key] = folder
        return trained, folders[key]

    return export


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: str(network["kind"]))
@pytest.mark.parametrize("exporter", EXPORTERS, ids=lambda exporter: type(exporter).__name__)
def test_graphs_compute_what_the_network_does_at_any_batch_and_size(
    exported: Exported, exporter: Exporter, network: dict[str, Any]
) -> None:
    trained, folder = exported(exporter, **network)
    encoder, decoder = exporter.open(folder, trained.latent)
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
        assert float(((rebuilt - again).abs() > 1e-4).float().mean()) < 1e-3


@pytest.mark.slow
def test_threads_of_onnxruntime_do_not_spin(exported: Exported) -> None:
    """They would by default, and torch, which computes in turns with them, would take more than twice as long."""
    trained, folder = exported(OnnxExporter(), **NETWORKS[1])
    for part in OnnxExporter().open(folder, trained.latent):
        assert isinstance(part, OnnxModule)
        options = part.session.get_session_options()
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.slow
def test_an_onnx_graph_is_run_by_others_by_its_names_and_says_how(exported: Exported) -> None:
    trained, folder = exported(OnnxExporter(), **NETWORKS[1])
    assert sorted(path.name for path in folder.iterdir()) == ["decoder.onnx", "encoder.onnx"]
    for part, axes in (("encoder", ["batch", "", "height", "width"]), ("decoder", ["batch", "", "rows", "columns"])):
        model = onnx.load(folder / f"{part}.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [axis.dim_param for axis in model.graph.input[0].type.tensor_type.shape.dim] == axes
        said = {entry.key: entry.value for entry in model.metadata_props}
        assert said["imginav.latents"].startswith("scaled by the graph")
        assert not {"imginav.scaling_factor", "imginav.shift_factor"} & said.keys()  # or users would scale again
        assert said["imginav.downsampling_factor"] == "4"
        assert said["imginav.images"].startswith("RGB, NCHW, float32 in [-1, 1]")
    session = onnxruntime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
    images = torch.zeros(1, 3, 64, 32)
    mean, log_variance = session.run(["latents", "log_variance"], {"images": images.numpy()})
    expected = trained.encoder(images)
    torch.testing.assert_close(torch.from_numpy(mean), expected[0].detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(log_variance), expected[1].detach(), atol=1e-4, rtol=1e-4)
    decoder = onnxruntime.InferenceSession(folder / "decoder.onnx", providers=["CPUExecutionProvider"])
    (decoded,) = decoder.run(["images"], {"latents": mean})
    torch.testing.assert_close(torch.from_numpy(decoded), trained.decoder(expected[0]).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_weights_of_the_other_part_lie_in_no_file(exported: Exported, part: str) -> None:
    trained, folder = exported(OnnxExporter(), **NETWORKS[1])
    own = sum(parameter.numel() for parameter in getattr(trained.autoencoder, part).parameters())
    graph = onnx.load(folder / f"{part}.onnx").graph
    written = sum(math.prod(weights.dims) for weights in graph.initializer)
    assert own <= written < own + 100  # what norms reshape by is no weight
    _, folder = exported(Pt2Exporter(), **NETWORKS[1])
    program = torch.export.load(folder / f"{part}.pt2")
    assert sum(parameter.numel() for parameter in program.parameters()) == own


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: str(network["kind"]))
@pytest.mark.parametrize(("exporter", "name"), FORMATS)
def test_the_card_says_how_to_load_it(
    exported: Exported, exporter: Exporter, name: str, network: dict[str, Any]
) -> None:
    trained, folder = exported(exporter, **network)
    images = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    names: dict[str, Any] = {"images": images.numpy() if name == "onnx" else images}
    with torch.no_grad():
        exec(exporter.how_to_load(str(folder)), names)  # noqa: S102  # it is what a reader would do
        mean, *_ = trained.encoder(images)
        rebuilt = trained.decoder(mean)
    np.testing.assert_allclose(np.asarray(names["latents"]), mean, atol=1e-4, rtol=1e-4)
    assert np.isclose(np.asarray(names["images"]), rebuilt, atol=1e-4).mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize(("exporter", "name"), FORMATS)
def test_a_file_does_not_say_where_the_code_lay_that_made_it(exported: Exported, exporter: Exporter, name: str) -> None:
    _, folder = exported(exporter, **NETWORKS[0])
    packages = [str(Path(file).parents[1]).encode() for file in (imginav.__file__, str(torch.__file__))]
    for path in folder.iterdir():
        contents = [path.read_bytes()]
        if name == "pt2":
            with zipfile.ZipFile(path) as archive:
                contents = [archive.read(entry) for entry in archive.namelist()]
        assert contents
        assert not any(package in content for package in packages for content in contents)


def test_a_graph_of_torch_refuses_sides_that_are_no_multiples(exported: Exported) -> None:
    trained, folder = exported(Pt2Exporter(), **NETWORKS[0])
    encoder, _ = Pt2Exporter().open(folder, trained.latent)
    with pytest.raises(RuntimeError, match=r"shape\[2\] = 30 to be of the form 4\*"):
        encoder(torch.zeros(1, 3, 30, 32))


def test_a_pretrained_one_may_be_made_of_graphs(exported: Exported) -> None:
    exporter = Pt2Exporter()
    trained, folder = exported(exporter, **NETWORKS[0])
    pretrained = Pretrained(*exporter.open(folder, trained.latent), trained.latent).eval()
    images = torch.zeros(1, 3, 32, 32)
    expected = Pretrained(trained.encoder, trained.decoder, trained.latent).encode(images)
    torch.testing.assert_close(pretrained.encode(images), expected)
    assert pretrained.decode(expected).shape == images.shape


@pytest.mark.parametrize("exporter", EXPORTERS, ids=lambda exporter: type(exporter).__name__)
def test_a_graph_is_loaded_as_it_is_and_not_compiled(
    exported: Exported, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, folder = exported(exporter, **NETWORKS[0])
    pretrained = Pretrained(*exporter.open(folder, trained.latent), trained.latent)
    monkeypatch.setattr(handoff, "_of_folder", lambda *_: pretrained)
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    loaded = imginav.load(folder)
    expected = Pretrained(trained.encoder, trained.decoder, trained.latent).encode(images)
    torch.testing.assert_close(loaded.encode(images), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="is for runs, checkpoints and exports of the format safetensors; leave"):
        imginav.load(folder, engine="compiled")


class DependsOnWhatItSees(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 4, stride=4)  # without weights, torch would not print its half-made graph

    def forward(self, images: Tensor) -> tuple[Tensor]:
        features = self.layer(images)
        return (features if float(features.sum()) > 1 else -features,)


class DependsOnTheSize(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (images[:, :, ::4, ::4] if images.shape[2] > 8 else images[:, :, 1::4, 1::4],)


class IsNoneOfOnnx(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (torch.special.bessel_j0(images)[:, :, ::4, ::4],)


class Refuses(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor]:
        raise LookupError("I take\nno images") from ValueError("of any kind\nat all")


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (DependsOnWhatItSees(), "GuardOnDataDependentSymNode: Could not guard on data-dependent expression [^\n]*"),
        (DependsOnTheSize(), "ValueError: at 1×3×4×4, the graph does not compute what the network does"),
        (Refuses(), "ValueError: of any kind"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
@pytest.mark.parametrize(("exporter", "name"), FORMATS)
def test_a_network_that_is_no_graph_is_refused(
    make_trained: MakeTrained,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    exporter: Exporter,
    name: str,
    network: nn.Module,
    reason: str,
) -> None:
    trained = evolve(make_trained(), encoder=network)
    sentence = (
        rf"^--format {name}: the encoder cannot be made a graph of any batch and size \({reason}\); take --format "
    )
    with pytest.raises(UserError, match=f"{sentence}safetensors$"):
        exporter.write(trained, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_graph_that_is_none_of_onnx_is_refused(make_trained: MakeTrained, tmp_path: Path) -> None:
    trained = evolve(make_trained(), encoder=IsNoneOfOnnx())
    sentence = (
        r"^--format onnx: the encoder cannot be made a graph .*No ONNX function found.*; take --format safetensors$"
    )
    with pytest.raises(UserError, match=sentence):
        OnnxExporter().write(trained, tmp_path)
    Pt2Exporter().write(trained, tmp_path)


def test_a_network_that_takes_no_single_cells_is_exported(make_trained: MakeTrained, tmp_path: Path) -> None:
    trained = make_trained()
    padded = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(4, 3, 3))  # a single row has nothing to be reflected in
    Pt2Exporter().write(evolve(trained, decoder=padded), tmp_path)
    _, decoder = Pt2Exporter().open(tmp_path, trained.latent)
    latents = torch.rand(1, 4, 2, 5)
    with torch.no_grad():
        torch.testing.assert_close(decoder(latents), padded(latents))


class Keeping(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.mark.slow
def test_torch_says_nothing_of_itself(make_trained: MakeTrained, tmp_path: Path) -> None:
    handler = Keeping()
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx.experimental.symbolic_shapes")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
    try:
        OnnxExporter().write(make_trained(), tmp_path)
        with pytest.raises(UserError):
            Pt2Exporter().write(evolve(make_trained(), encoder=DependsOnWhatItSees()), tmp_path)
    finally:
        after = [logger.level for logger in loggers]
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
    assert handler.said == []
    assert after == [logging.WARNING, logging.WARNING]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.999])
@pytest.mark.parametrize(("exporter", "suffix"), FORMATS)
def test_a_truncated_file_is_refused(
    exported: Exported, tmp_path: Path, exporter: Exporter, suffix: str, share: float
) -> None:
    trained, folder = exported(exporter, **NETWORKS[0])
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / f"decoder.{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"decoder\.{suffix}: cannot be loaded .*; export it again"):
        exporter.open(tmp_path, trained.latent)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04" + bytes(100)])
@pytest.mark.parametrize(("exporter", "suffix"), FORMATS)
def test_a_damaged_file_is_refused(
    make_trained: MakeTrained, tmp_path: Path, exporter: Exporter, suffix: str, content: bytes
) -> None:
    for part in ("encoder", "decoder"):
        (tmp_path / f"{part}.{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=rf"encoder\.{suffix}: cannot be loaded .*; export it again"):
        exporter.open(tmp_path, make_trained().latent)


def test_an_archive_of_something_else_is_refused(make_trained: MakeTrained, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "encoder.pt2", "w") as archive:
        archive.writestr("archive/archive_format", "pt2")
        archive.writestr("archive/models/model.json", "{}")
    with pytest.raises(UserError, match=r"encoder\.pt2: cannot be loaded .*; export it again"):
        Pt2Exporter().open(tmp_path, make_trained().latent)


@pytest.mark.parametrize("where", ["sample inputs", "a weight", "an object"])
def test_nothing_in_an_archive_of_torch_is_executed(exported: Exported, tmp_path: Path, where: str) -> None:
    trained, folder = exported(Pt2Exporter(), **NETWORKS[0])
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
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
