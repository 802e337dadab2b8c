"""Encoding and decoding one layout with each inference engine, beside `imginav.load` without options.

Compilation is not timed. AOTInductor compiles for the shapes of the example alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import imginav
from imginav import UserError
from imginav.plugin.checkpoint import load_checkpoint
from imginav.plugin.registry import installed
from imginav_benches import Pace, measure_in_turns
from imginav_benches.measuring import Scaled
from imginav_exporters.graphs import OnnxExporter
from imginav_handoff.exporter import TrainedAutoencoder
from imginav_handoff.pretrained import architecture_of

PARTS = ("encode", "decode")

AGREES = 0.99
"""Share of values within the tolerance: after rounding, another class may be the likeliest of a pixel."""

Engine = Callable[[Path, str, Tensor, Path], nn.Module]
"""Takes a checkpoint, the part of it, an example of what goes in, and a folder for files; returns what computes it."""


def _loaded(checkpoint: Path, part: str, **how: Any) -> nn.Module:
    pretrained = imginav.load(checkpoint, **how)
    return pretrained.encoder if part == "encode" else pretrained.decoder


def _bf16(checkpoint: Path, part: str, example: Tensor, folder: Path) -> nn.Module:
    return _loaded(checkpoint, part, dtype=torch.bfloat16)


def _compiled(checkpoint: Path, part: str, example: Tensor, folder: Path) -> nn.Module:
    return _loaded(checkpoint, part, dtype=example.dtype, engine="compiled")


def _onnx_runtime(checkpoint: Path, part: str, example: Tensor, folder: Path) -> nn.Module:
    """Take the graph that `imginav export --format onnx` writes, with its dynamic axes."""
    exporter, pretrained = OnnxExporter(), imginav.load(checkpoint)
    try:
        exporter.check()
    except UserError as error:
        pytest.skip(str(error))
    architecture = architecture_of(checkpoint, load_checkpoint(checkpoint), installed())
    exporter.write(
        TrainedAutoencoder(
            autoencoder=architecture.build(installed(), str(checkpoint)),
            architecture=architecture,
            latent=pretrained.latent,
            encoder=pretrained.encoder,
            decoder=pretrained.decoder,
        ),
        folder,
    )
    return exporter.open(folder, pretrained.latent)[PARTS.index(part)]


def _aot_inductor(checkpoint: Path, part: str, example: Tensor, folder: Path) -> nn.Module:
    with torch.no_grad():
        program = torch.export.export(_loaded(checkpoint, part, dtype=example.dtype), (example,))
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(folder / f"{part}.pt2"))
    return torch._inductor.aoti_load_package(package)


ENGINES: dict[str, tuple[Engine, torch.dtype]] = {
    "eager, bf16": (_bf16, torch.bfloat16),
    "ONNX Runtime": (_onnx_runtime, torch.float32),
    "compiled": (_compiled, torch.float32),
    "compiled, bf16": (_compiled, torch.bfloat16),
    "AOTInductor": (_aot_inductor, torch.float32),
    "AOTInductor, bf16": (_aot_inductor, torch.bfloat16),
}
"""Those that compile come last; the first alone is tried with `--smoke`."""


@pytest.mark.benchmark(group="engines")
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("engine", ENGINES)
def test_engine(
    engine: str,
    part: str,
    untrained: Path,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    benchmark: Any,
    pace: Pace,
    scaled: Scaled,
) -> None:
    make, dtype = ENGINES[engine]
    if pytestconfig.option.quick and make in (_compiled, _aot_inductor):
        pytest.skip("--quick: compiling takes a quarter of a minute and more")
    pretrained = imginav.load(untrained)
    images = torch.rand(1, 3, scaled(512), scaled(512)) * 2 - 1
    given = images if part == "encode" else pretrained.encode(images)
    example = given.to(dtype)
    reference = _loaded(untrained, part)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # what compilers warn of says nothing of speed
        ours = make(untrained, part, example, tmp_path)
        expected, found = (_first(network(value)) for network, value in ((reference, given), (ours, example)))
        tolerance = 1e-3 if dtype == torch.float32 else 0.1
        assert torch.isclose(found.float(), expected, atol=tolerance).float().mean() > AGREES
        measure_in_turns(
            benchmark, lambda: ours(example), lambda: reference(given), rounds=4 * pace.turns, peer="eager, fp32"
        )


def _first(computed: Tensor | tuple[Tensor, ...]) -> Tensor:
    return computed if isinstance(computed, Tensor) else computed[0]
