"""Where a run is computed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

import imginav.training.device
from imginav import UserError
from imginav.data.batches import stack
from imginav.manifest.tables import Machine
from imginav.training.device import open_device
from imginav_datasets.classes import PALETTE


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_f": True, "avx2": True}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_a_cpu_computes_in_bf16_where_it_has_arithmetic_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    device = open_device(Machine(device="cpu"))
    assert (device.precision, device.workers, device.scales_gradients) == (precision, 0, False)
    assert open_device(Machine(device="cpu", precision="fp32")).precision == "fp32"


def test_a_version_of_torch_that_does_not_tell_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert open_device(Machine(device="cpu")).precision == "fp32"


@pytest.mark.parametrize(
    ("kind", "said", "steps", "compiled"),
    [
        ("cuda", "auto", 3000, True),
        ("cuda", "auto", 2999, False),
        ("cuda", True, 1, True),
        ("cuda", False, 10**6, False),
        ("cpu", "auto", 10**6, False),
        ("cpu", True, 1, True),
    ],
)
def test_a_network_is_compiled_where_the_run_is_long_enough_for_it(
    monkeypatch: pytest.MonkeyPatch, kind: str, said: Literal["auto"] | bool, steps: int, *, compiled: bool
) -> None:
    monkeypatch.setattr(imginav.training.device, "_device", lambda name: torch.device(kind))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    machine = Machine(compile=said, precision="fp32", workers=0)
    device = open_device(machine, steps)
    assert device.compiled is compiled
    assert (device.memory_format is torch.channels_last) is (compiled or kind == "cpu")
    asked: list[bool] = []
    module = torch.nn.Linear(2, 2)
    monkeypatch.setattr(module, "compile", lambda: asked.append(True))
    device.compile(module)
    assert bool(asked) is compiled
    monkeypatch.setattr("shutil.which", lambda name: None)
    # Without a C compiler it cannot be; who asks for it is told so by torch.
    assert open_device(machine, steps).compiled is (said is True)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (Machine(device="cpu"), torch.channels_last),
        (Machine(device="cpu", channels_last=False), torch.contiguous_format),
        (Machine(device="cpu", channels_last=False, compile=True), torch.contiguous_format),
    ],
)
def test_the_memory_format_is_the_faster_one_unless_it_is_stated(machine: Machine, expected: object) -> None:
    assert open_device(machine).memory_format is expected


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "tpu:0", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"machine.device = '{name}' cannot be used: .*; take 'auto', 'cpu' or a GPU"):
        open_device(Machine(device=name))


@pytest.mark.parametrize("name", ["mps", "mps:0"])
def test_the_gpus_of_apple_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(
        UserError, match=rf"machine.device = '{name}' is not supported: .*double precision.*; take 'cpu'"
    ):
        open_device(Machine(device=name))


def test_parts_of_a_batch_are_the_batch() -> None:
    device = open_device(Machine(device="cpu", accumulate=3))
    batch = {"rgb": torch.arange(8).reshape(8, 1), "label": torch.arange(8)}
    parts = list(device.parts_of(batch))
    assert [len(part["rgb"]) for part in parts] == [3, 3, 2]
    for name, whole in batch.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), whole)


@pytest.mark.parametrize("channels_last", [True, False])
def test_classes_are_coloured_here_bit_for_bit_as_their_pixels_would_come(*, channels_last: bool) -> None:
    device = open_device(Machine(device="cpu", channels_last=channels_last))
    classes = np.random.default_rng(0).integers(0, 12, (3, 20, 20), dtype=np.uint8)
    classes[classes >= len(PALETTE)] = 255
    bare = [{"segmentation": layout, "label": np.array(1, np.uint8)} for layout in classes]
    coloured = [{**sample, "rgb": PALETTE.colour(sample["segmentation"])} for sample in bare]
    made, given = (device.batch(stack(samples, PALETTE)) for samples in (bare, coloured))
    assert list(made) == list(given) == ["rgb", "segmentation", "label"]
    for name, tensor in given.items():
        assert torch.equal(made[name], tensor)
        assert (made[name].dtype, made[name].stride()) == (tensor.dtype, tensor.stride())
    assert given["rgb"].is_contiguous(memory_format=device.memory_format)
    assert made["rgb"].permute(0, 2, 3, 1)[torch.from_numpy(classes == 255)].unique().tolist() == [-1]
    assert torch.equal(device.images(stack(bare, PALETTE)), given["rgb"])
