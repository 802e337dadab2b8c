"""Encoding and decoding beside the original autoencoder, which the phases' default took the place of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from imginav.model.autoencoder import parameter_count
from imginav_benches import ORIGINAL, Case, Coder, Subject, chosen
from imginav_benches.cases import base_case
from imginav_benches.measuring import Scaled

BATCHES = (1, 16)

AS_SHIPPED, ITS_BEST = "as shipped", "RGB alone, NHWC"
"""The original ran as torch lays images out and decoded all its heads; the other is the fastest that it can be had."""


@pytest.mark.benchmark(group="peers")
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("precision", ["fp32", "default"])
@pytest.mark.parametrize("how", [AS_SHIPPED, ITS_BEST])
@pytest.mark.parametrize("operation", ["encode", "decode"])
def test_beside_the_original(
    operation: str,
    how: str,
    precision: str,
    batch: int,
    subject_alone: Subject,
    pytestconfig: pytest.Config,
    benchmark: Any,
    interleaved_briefly: Callable[..., None],
    scaled: Scaled,
) -> None:
    name, base, size = pytestconfig.option.device, base_case(pytestconfig.option.device), scaled(512)
    if precision == "default" and base.precision == "fp32":
        pytest.skip("this device computes in fp32 by default, which is measured already")
    if batch > 1 and pytestconfig.option.quick:
        pytest.skip("--quick: one image at a time")
    precision = base.precision if precision == "default" else precision
    ours = Coder.of(subject_alone, Case(batch, size, precision, base.channels_last, compiled=False), name)
    (original,) = chosen(ORIGINAL, None)
    case = Case(batch, size, precision, how == ITS_BEST, compiled=False)
    theirs = Coder.of(original, case, name, rgb_only=how == ITS_BEST)
    benchmark.extra_info |= {
        "operation": operation,
        "size": size,
        "batch": batch,
        "precision": precision,
        "peer_parameters": parameter_count(theirs.model),
        "peer_latent": original.latent(size),
    }
    both = (ours.encode, theirs.encode) if operation == "encode" else (ours.decode, theirs.decode)
    interleaved_briefly(*both, peer=f"original, {how}, {precision}, batch {batch}")
