"""Graphs that need no imginav to run: ONNX, and torch's own `pt2`. Scaling is inside of them, so nobody can forget it.

Their libraries take seconds to import, and every command imports this package: they are imported where they are used.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import frozen

from imginav import Exporter, TrainedAutoencoder, UserError
from imginav.plugin import write_bytes

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from imginav_handoff.latent_space import LatentSpace

ENCODER, DECODER = "encoder", "decoder"

AXES = {ENCODER: ("images", "batch", "height", "width"), DECODER: ("latents", "batch", "rows", "columns")}
"""Of an ONNX graph: what goes in, and its axes 0, 2 and 3, which are dynamic."""

EXAMPLE = (2, 6, 10)
"""Batch, rows and columns of the latents that a graph is traced with: all are dynamic, and differ to show it."""

TRIED = ((1, 1, 1), (3, 2, 3))
"""Other ones, that a graph is tried with; `imginav export` tries the size of whole layouts."""

TALKATIVE = ("torch.onnx", "torch.fx.experimental.symbolic_shapes")
"""Loggers that warn of what means nothing to whoever exports."""

METADATA_PREFIX = "imginav."

SCALED = "The graphs of this folder scale by themselves: their latents are those of diffusion."

OBJECTS = ("custom_obj_", "opaque_obj_")
"""With what the names of objects in a `pt2` archive begin that torch unpickles."""


@frozen(kw_only=True)
class OnnxExporter(Exporter):
    """Encoder and decoder as ONNX graphs of any batch and size, which scale by themselves (extra `onnx`)."""

    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    any_device: ClassVar[bool] = False
    scaling_note: ClassVar[str] = SCALED

    def check(self) -> None:
        try:
            import onnx  # noqa: F401  # what is written with it
            import onnxruntime  # type: ignore[import-untyped]  # noqa: F401  # what it is checked with; it has no types
            import onnxscript  # noqa: F401  # torch's exporter is made of it
        except ImportError as error:
            raise _needs_onnx(error) from None

    def write(self, trained: TrainedAutoencoder, folder: Path) -> None:
        self.check()
        import onnx

        for part, program in _traced(trained, "onnx"):
            try:
                model = _onnx_of(program, part, variational=trained.latent.variational)
                onnx.checker.check_model(model)
            except Exception as error:  # whatever an operation that is none of ONNX's makes torch raise
                raise _no_graph("onnx", part, error) from error
            for key, value in _metadata(trained.latent).items():
                model.metadata_props.add(key=f"{METADATA_PREFIX}{key}", value=value)
            write_bytes(folder / f"{part}.onnx", model.SerializeToString())

    def open(self, folder: Path, latent: LatentSpace) -> tuple[nn.Module, nn.Module]:
        try:
            import onnxruntime
        except ImportError as error:
            raise _needs_onnx(error) from None
        from imginav_exporters.onnx_session import OnnxModule

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors, which are raised as well
        # Spinning threads would occupy the processors that torch computes on next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")

        def session(part: str) -> Any:
            path = folder / f"{part}.onnx"
            try:
                return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
            except Exception as error:  # noqa: BLE001  # onnxruntime's errors derive from nothing else
                raise UserError(f"{path}: cannot be loaded ({_first_line(error)}); export it again") from None

        return OnnxModule(session(ENCODER), several=True), OnnxModule(session(DECODER), several=False)

    def how_to_load(self, folder: str) -> str:
        return (
            "import onnxruntime\n\n"
            f'encoder = onnxruntime.InferenceSession("{folder}/encoder.onnx")\n'
            f'decoder = onnxruntime.InferenceSession("{folder}/decoder.onnx")\n'
            "# images are an array of numpy: float32 (N, 3, H, W) in [-1, 1]\n"
            '(latents,) = encoder.run(["latents"], {"images": images})\n'
            '(images,) = decoder.run(["images"], {"latents": latents})\n'
        )


@frozen(kw_only=True)
class Pt2Exporter(Exporter):
    """Encoder and decoder as graphs of `torch.export`, of any batch and size, which scale by themselves."""

    # A graph casts to what it was traced with: that of a variational encoder fails in another dtype. Of devices, a CPU
    # alone was tried.
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    any_device: ClassVar[bool] = False
    scaling_note: ClassVar[str] = SCALED

    def write(self, trained: TrainedAutoencoder, folder: Path) -> None:
        import torch

        for part, program in _traced(trained, "pt2"):
            buffer = io.BytesIO()
            torch.export.save(program, buffer)
            write_bytes(folder / f"{part}.pt2", buffer.getbuffer())

    def open(self, folder: Path, latent: LatentSpace) -> tuple[nn.Module, nn.Module]:
        return _open_pt2(folder / f"{ENCODER}.pt2"), _open_pt2(folder / f"{DECODER}.pt2")

    def how_to_load(self, folder: str) -> str:
        return (
            "import torch\n\n"
            f'encoder = torch.export.load("{folder}/encoder.pt2").module()\n'
            f'decoder = torch.export.load("{folder}/decoder.pt2").module()\n'
            "latents, *_ = encoder(images)  # float32 (N, 3, H, W) in [-1, 1] to scaled latents\n"
            "images = decoder(latents)\n"
        )


def _traced(trained: TrainedAutoencoder, name: str) -> Iterator[tuple[str, ExportedProgram]]:
    """Return encoder and decoder as graphs; raises UserError where a network goes by what it computes, or by sizes."""
    import torch
    from torch.export import Dim

    latent = trained.latent
    row, column = Dim("rows"), Dim("columns")
    sides = {
        ENCODER: (trained.encoder, (latent.downsampling_factor * row, latent.downsampling_factor * column)),
        DECODER: (trained.decoder, (row, column)),
    }
    for part, (network, (height, width)) in sides.items():
        said = io.StringIO()  # of a network that it fails on, torch prints what it has made of it so far
        try:
            with torch.no_grad(), _quiet(), redirect_stderr(said):
                program = torch.export.export(
                    network,
                    (torch.zeros(_shape(part, latent, EXAMPLE)),),
                    dynamic_shapes=({0: Dim("batch"), 2: height, 3: width},),
                )
                # With its example, a graph refuses latents of one row or column, though it computes them; and zeros of
                # images may be larger than all weights.
                program.example_inputs = None
                for size in TRIED:
                    _try_out(network, program, _shape(part, latent, size))
        except Exception as error:  # whatever a plugin's network makes torch raise
            raise _no_graph(name, part, error) from error
        sys.stderr.write(said.getvalue())
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # the paths of the code on this machine, which nobody else needs
        yield part, program


def _shape(part: str, latent: LatentSpace, size: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return the shape of what goes into a part, for latents of so many images, rows and columns."""
    batch, rows, columns = size
    factor = latent.downsampling_factor
    return (batch, 3, rows * factor, columns * factor) if part == ENCODER else (batch, latent.channels, rows, columns)


def _try_out(network: nn.Module, program: ExportedProgram, shape: tuple[int, ...]) -> None:
    """Raise ValueError where a graph computes something else than its network, which may do else at other sizes."""
    import torch

    given = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    try:
        expected = network(given)
    except (RuntimeError, ValueError):  # so small a one the network refuses by itself
        return
    found = program.module()(given)
    pairs = zip(expected, found, strict=True) if isinstance(expected, tuple) else [(expected, found)]
    # Off by the last digit, another class of a palette may be the likeliest.
    if any(a.shape != b.shape or torch.isclose(a, b, atol=1e-4).float().mean() < 0.99 for a, b in pairs):
        raise ValueError(f"at {'×'.join(map(str, shape))}, the graph does not compute what the network does")


def _onnx_of(program: ExportedProgram, part: str, *, variational: bool) -> Any:
    """Return a graph as ONNX's ModelProto."""
    from torch.export import Dim
    from torch.onnx import export

    given, *axes = AXES[part]
    computed = ["images"] if part == DECODER else ["latents", *(["log_variance"] if variational else [])]
    with _quiet():
        made: Any = export(
            program,
            dynamo=True,
            verbose=False,
            input_names=[given],
            output_names=computed,
            dynamic_shapes=(dict(zip((0, 2, 3), map(Dim, axes), strict=True)),),
        )
    return made.model_proto


def _metadata(latent: LatentSpace) -> dict[str, str]:
    return {
        "latents": "scaled by the graph: those of diffusion, of mean 0 and standard deviation 1",
        "downsampling_factor": str(latent.downsampling_factor),
        "images": "RGB, NCHW, float32 in [-1, 1]; both sides are multiples of downsampling_factor",
        "weights_sha256": latent.weights_sha256,
    }


def _open_pt2(path: Path) -> nn.Module:
    import torch

    from imginav_exporters.pt2_graph import Pt2Module

    _refuse_pickles(path)
    try:
        with _quiet():
            program = torch.export.load(path)
        return Pt2Module(program.module())
    except Exception as error:  # noqa: BLE001  # whatever a damaged archive makes torch raise
        raise UserError(f"{path}: cannot be loaded ({_first_line(error)}); export it again") from None


def _refuse_pickles(path: Path) -> None:
    """Raise UserError for an archive in which torch would unpickle more than tensors, and so execute what it holds."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = archive.read(name) if name.endswith(("_config.json", ".pt")) else b""
                if name.endswith("_config.json"):
                    for payload in json.loads(content)["config"].values():
                        if payload["use_pickle"] or payload["path_name"].startswith(OBJECTS):
                            raise ValueError(f"{name} names a pickle")
                elif content:  # empty where there are no examples of what goes in
                    torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # noqa: BLE001  # whatever a made up archive makes of its readers
        raise UserError(f"{path}: cannot be loaded ({_first_line(error)}); export it again") from None


def _no_graph(name: str, part: str, error: Exception) -> UserError:
    return UserError(
        f"--format {name}: the {part} cannot be made a graph of any batch and size ({_first_line(error)}); "
        "take --format safetensors"
    )


def _needs_onnx(error: ImportError) -> UserError:
    return UserError(
        f"--format onnx needs the extra onnx ({error}); install it with: pip install -c constraints.txt -e '.[onnx]'"
    )


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:  # the first of them says what it was, the others where
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the terminal what torch says of itself: packages that it looks for, its own deprecations."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # Of how torch.onnx copies a graph; whoever exports one can do nothing about it.
            warnings.filterwarnings("ignore", r".*LeafSpec.*is deprecated", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
