from __future__ import annotations

import pytest
import torch
from attrs import asdict, evolve

from imginav_benches import cases_of, missing
from imginav_benches.cases import base_case


@pytest.mark.parametrize(("capabilities", "precision"), [({}, "fp32"), ({"amx_bf16": True}, "bf16")])
def test_each_condition_is_changed_alone(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    base, *others = cases_of("cpu", quick=False, grid=False)
    assert base == base_case("cpu")
    assert asdict(base) == {"batch": 1, "size": 512, "precision": precision, "channels_last": True, "compiled": False}
    for other in others:
        assert sum(asdict(base)[name] != value for name, value in asdict(other).items()) == 1
    assert {case.batch for case in others} == {1, 4, 16}
    assert {case.size for case in others} == {256, 512, 1024}
    assert {case.precision for case in others} == {"fp32", "bf16", "fp16"}
    assert any(case.compiled for case in others)
    assert any(not case.channels_last for case in others)


def test_the_grid_has_every_combination_once_and_the_base_first() -> None:
    cases = cases_of("cpu", quick=False, grid=True)
    assert cases[0] == base_case("cpu")
    assert len(cases) == len(set(cases)) == 3 * 3 * 3 * 2 * 2
    assert len({case.label for case in cases}) == len(cases)


def test_quick_is_a_part_of_the_default() -> None:
    assert set(cases_of("cpu", quick=True, grid=False)) < set(cases_of("cpu", quick=False, grid=False))


def test_what_a_device_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_case("cpu")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not missing(base, "cpu")
    assert not missing(evolve(base, precision="bf16"), "cpu")
    assert missing(evolve(base, precision="fp16"), "cpu") == "cpu has no fp16 arithmetic of its own"
    assert "g++" in missing(evolve(base, compiled=True), "cpu")
