"""How long encoding and decoding take, apart: for planning a diffusion model and its ControlNet."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from attrs import asdict
from torch import Tensor

from imginav.training.device import Device
from imginav_benches import Case, Coder, Pace, Subject, measure_passes, missing, peak_bytes_of
from imginav_benches.cases import base_case


@pytest.fixture(scope="session")
def base(pytestconfig: pytest.Config, subject_alone: Subject) -> Coder:
    """The first autoencoder under its usual conditions, with which all others are measured in turns."""
    return Coder.of(subject_alone, base_case(pytestconfig.option.device), pytestconfig.option.device)


@pytest.fixture
def coder(subject: Subject, case: Case, pytestconfig: pytest.Config, benchmark: Any) -> Coder:
    if reason := missing(case, pytestconfig.option.device):
        pytest.skip(reason)
    if case.size % subject.factor:
        pytest.skip(f"{case.size} pixels are no multiple of {subject.factor}, by which {subject.name} scales down")
    benchmark.extra_info |= {"subject": subject.name, "latent": subject.latent(case.size), **asdict(case)}
    made = Coder.of(subject, case, pytestconfig.option.device)
    if case.compiled:
        made.compile()
    return made


@pytest.mark.benchmark(group="encode")
def test_encode(benchmark: Any, pace: Pace, coder: Coder, case: Case, base: Coder) -> None:
    _measure(benchmark, pace, case, coder.encode, base.encode, coder.device)
    assert coder.encode().shape == coder.latents.shape


@pytest.mark.benchmark(group="decode")
def test_decode(benchmark: Any, pace: Pace, coder: Coder, case: Case, base: Coder) -> None:
    """The RGB image alone, which is what a diffusion model's latents are decoded to."""
    _measure(benchmark, pace, case, coder.decode, base.decode, coder.device)
    assert coder.decode().shape == coder.images.shape


@pytest.mark.benchmark(group="decode, all heads")
def test_decode_all_heads(
    benchmark: Any, pace: Pace, pytestconfig: pytest.Config, subject_alone: Subject, base: Coder
) -> None:
    case = base_case(pytestconfig.option.device)
    coder = Coder.of(subject_alone, case, pytestconfig.option.device, rgb_only=False)
    benchmark.extra_info |= {"subject": subject_alone.name, "latent": subject_alone.latent(case.size), **asdict(case)}
    _measure(benchmark, pace, case, coder.decode, base.decode, coder.device)


def _measure(
    benchmark: Any,
    pace: Pace,
    case: Case,
    work: Callable[[], Tensor],
    base: Callable[[], Tensor],
    device: Device,
) -> None:
    with warnings.catch_warnings():
        if case.compiled:
            warnings.simplefilter("ignore")  # as above
        measure_passes(benchmark, work, base, pace)
        # What a compiled module makes on its way is not seen from outside of it, but on a GPU.
        if not case.compiled or device.device.type == "cuda":
            benchmark.extra_info["peak_bytes"] = peak_bytes_of(work, device)
