"""Where a run is computed."""

from __future__ import annotations

import pytest
import torch

from imginav import UserError
from imginav.device import open_device
from imginav.manifest import Machine


def test_a_cpu_computes_in_fp32_and_loads_in_its_own_process() -> None:
    device = open_device(Machine(device="cpu"))
    assert (device.precision, device.workers, device.scales_gradients) == ("fp32", 0, False)


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


def test_parts_of_a_batch_are_the_batch() -> None:
    device = open_device(Machine(device="cpu", accumulate=3))
    batch = {"rgb": torch.arange(8).reshape(8, 1), "label": torch.arange(8)}
    parts = list(device.parts_of(batch))
    assert [len(part["rgb"]) for part in parts] == [3, 3, 2]
    for name, whole in batch.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), whole)
