"""How long encoding and decoding take."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from imginav.model.autoencoder import Autoencoder
from imginav.runs.evaluation_result import Latency
from imginav.training.device import Device

WARM_UP_PASSES = 2
"""That are not timed: the first ones choose algorithms and fill caches."""

FEWEST_PASSES = 7
MOST_PASSES = 100
TIMED_SECONDS = 2.0
"""For how long encoding, and decoding, are timed, within these bounds."""


@torch.no_grad()
def latency_of(model: Autoencoder, image_size: int, device: Device) -> Latency:
    """Time a model on one layout at a time, encoding and decoding apart."""
    model.eval()
    image = torch.zeros(1, 3, image_size, image_size, device=device.device).contiguous(
        memory_format=device.memory_format
    )
    with device.autocast():
        latent = model.encode(image)
    encode = _times_ms(lambda: model.encode(image), device)
    decode = _times_ms(lambda: model.decode(latent), device)
    return Latency(
        device=device.name,
        precision=device.precision,
        passes=min(len(encode), len(decode)),
        encode_ms=float(np.median(encode)),
        encode_p95_ms=float(np.percentile(encode, 95)),
        decode_ms=float(np.median(decode)),
        decode_p95_ms=float(np.percentile(decode, 95)),
    )


def _times_ms(work: Callable[[], object], device: Device) -> list[float]:
    times: list[float] = []
    for number in range(WARM_UP_PASSES + MOST_PASSES):
        device.wait()
        start = time.perf_counter()
        with device.autocast():
            work()
        device.wait()
        if number >= WARM_UP_PASSES:
            times.append(1e3 * (time.perf_counter() - start))
        if len(times) >= FEWEST_PASSES and sum(times) > 1e3 * TIMED_SECONDS:
            break
    return times
