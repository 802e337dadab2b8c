"""Graphs that need no imginav to run: ONNX, and torch's own `pt2`. Scaling is inside of them, so nobody can forget it.

Their libraries take seconds to import, and every command imports this package: they are imported where they are used.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import frozen

from imginav import Exporter, TrainedAutoencoder, UserError
from imginav.rundir import write_bytes

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from imginav.latent_space import LatentSpace

ENCODER, DECODER = "encoder", "decoder"

EXAMPLE = (2, 6, 10)
"""Batch, rows and columns of the latents that a graph is traced with: all are dynamic, and differ to show it."""

METADATA_PREFIX = "imginav."

OBJECTS = ("custom_obj_", "opaque_obj_")
"""With what the names of objects in a `pt2` archive begin that torch unpickles."""


@frozen(kw_only=True)
class OnnxExporter(Exporter):
    """Encoder and decoder as ONNX graphs of any batch and size, which scale by themselves (extra `onnx`)."""

    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    any_device: ClassVar[bool] = False

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
        from torch.onnx import export

        for part, program in _traced(trained, "onnx"):
            outputs = ["images"] if part == DECODER else ["latents", "log_variance"]
            count = 1 + (part == ENCODER and trained.latent.variational)
            with _quiet():
                made: Any = export(
                    program,
                    dynamo=True,
                    verbose=False,
                    input_names=["latents" if part == DECODER else "images"],
                    output_names=outputs[:count],
                )
            model = made.model_proto
            for key, value in _metadata(trained.latent).items():
                model.metadata_props.add(key=f"{METADATA_PREFIX}{key}", value=value)
            onnx.checker.check_model(model)
            write_bytes(folder / f"{part}.onnx", model.SerializeToString())

    def open(self, folder: Path, latent: LatentSpace) -> tuple[nn.Module, nn.Module]:
        try:
            import onnxruntime
        except ImportError as error:
            raise _needs_onnx(error) from None
        from imginav_exporters.onnx_session import OnnxModule

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors, which are raised as well

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
            '(latents,) = encoder.run(["latents"], {"images": images})  # (N, 3, H, W) in [-1, 1]\n'
            '(images,) = decoder.run(["images"], {"latents": latents})\n'
        )


@frozen(kw_only=True)
class Pt2Exporter(Exporter):
    """Encoder and decoder as graphs of `torch.export`, of any batch and size, which scale by themselves."""

    # A graph casts to the dtypes that it was traced with, and nothing but a CPU was tried.
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    any_device: ClassVar[bool] = False

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
    """Return encoder and decoder as graphs; raises UserError where a network depends on what it computes."""
    import torch
    from torch.export import Dim

    latent, (batch, rows, columns) = trained.latent, EXAMPLE
    factor = latent.downsampling_factor
    row, column = Dim("rows"), Dim("columns")
    images = torch.zeros(batch, 3, rows * factor, columns * factor)
    latents = torch.zeros(batch, latent.channels, rows, columns)
    sides = {
        ENCODER: (trained.encoder, images, {0: Dim("batch"), 2: factor * row, 3: factor * column}),
        DECODER: (trained.decoder, latents, {0: Dim("batch"), 2: row, 3: column}),
    }
    for part, (module, example, dynamic) in sides.items():
        try:
            with torch.no_grad(), _quiet():
                program = torch.export.export(module, (example,), dynamic_shapes=(dynamic,))
        except Exception as error:  # whatever a plugin's network makes torch raise
            raise UserError(
                f"--format {name}: the {part} cannot be made a graph of any batch and size ({_first_line(error)}); "
                "take --format safetensors"
            ) from error
        yield part, program


def _metadata(latent: LatentSpace) -> dict[str, str]:
    return {
        "latents": "scaled: (latents - shift_factor) * scaling_factor of what the encoder gives",
        "scaling_factor": str(latent.scaling_factor),
        "shift_factor": str(latent.shift_factor),
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
                elif name.endswith(".pt"):
                    torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # noqa: BLE001  # whatever a made up archive makes of its readers
        raise UserError(f"{path}: cannot be loaded ({_first_line(error)}); export it again") from None


def _needs_onnx(error: ImportError) -> UserError:
    return UserError(
        f"--format onnx needs the extra onnx ({error}); install it with: pip install -c constraints.txt -e '.[onnx]'"
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the terminal what torch says of itself: packages that it looks for, its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
