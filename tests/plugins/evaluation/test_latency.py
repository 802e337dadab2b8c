"""How latency is taken; how long anything takes is no matter of a test."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
import torch

from imginav.training.trainer import Trainer
from imginav_evaluation import latency


def test_times_are_those_of_single_passes_encoding_and_decoding_apart(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer("machine.precision=fp32")
    clock = [0.0]
    encode, decode = trainer.model.encode, trainer.model.decode
    # Warming up takes longest.
    slow = itertools.chain([5.0, 5.0, 5.0], itertools.cycle([0.03, 0.03, 0.03, 0.03, 0.081]))

    def slow_encode(images: torch.Tensor) -> torch.Tensor:
        clock[0] += next(slow)
        return encode(images)

    def quick_decode(latents: torch.Tensor) -> dict[str, torch.Tensor]:
        clock[0] += 0.0001
        return decode(latents)

    monkeypatch.setattr(trainer.model, "encode", slow_encode)
    monkeypatch.setattr(trainer.model, "decode", quick_decode)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    measured = latency.latency_of(trainer.model, 32, trainer.device)
    assert measured.encode_ms == pytest.approx(30)
    assert measured.encode_p95_ms == pytest.approx(81)
    assert measured.decode_ms == measured.decode_p95_ms == pytest.approx(0.1)
    # Two seconds of encoding, at 40 ms on average; quick passes end at their number.
    assert measured.passes == 50
    assert (measured.device, measured.precision) == ("cpu, 1 thread", "fp32")
