"""What a training step costs: its time, its kernels, and the bytes and operations that no step can do without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from imginav.training.device import Device

Steps = Callable[[int], object]
"""Takes so many training steps."""

WARM_UP_STEPS = 10
"""The first of them choose kernels, and record where steps are recorded."""

PROFILED_STEPS = 5


@frozen(kw_only=True)
class StepCost:
    """One step of a training, in seconds, bytes and floating-point operations."""

    seconds: float
    kernels: int | None  # that the GPU ran; none where there is no GPU
    kernel_seconds: float | None  # of all of them together
    busy_seconds: float | None  # in which at least one of them ran
    moved_bytes: int  # that its operations read and write, each for itself
    flops: int  # of convolutions and matrix products

    @property
    def idle_share(self) -> float | None:
        """The share of the step in which the GPU ran nothing."""
        return None if self.busy_seconds is None else max(0.0, 1 - self.busy_seconds / self.seconds)

    def roofline_seconds(self, machine: Roofline) -> float:
        """Return the least time that it takes on a machine: the longer of its bytes' and its arithmetic's."""
        return max(self.moved_bytes / machine.bytes_per_second, self.flops / machine.flops_per_second)


@frozen(kw_only=True)
class Roofline:
    """What a device does at best, as measured on it."""

    bytes_per_second: float  # read and written, of a large copy
    flops_per_second: float  # of a large matrix product in the precision of the training


def measure_step(steps: Steps, device: Device, seconds: float, eager: StepCost | None = None) -> StepCost:
    """Measure a step, over as many as fit into so many seconds.

    Its bytes and operations are counted as torch is asked for them, which it is not where a recorded step is replayed
    or a compiled one runs: those take the counts of the `eager` step.
    """
    steps(WARM_UP_STEPS)
    once = _timed(steps, 3, device) / 3
    number = max(3, int(seconds / once))
    per_step = _timed(steps, number, device) / number
    kernels = _kernels(steps, device)
    moved_bytes, flops = (eager.moved_bytes, eager.flops) if eager else _counts(steps)
    return StepCost(
        seconds=per_step,
        kernels=None if kernels is None else round(len(kernels) / PROFILED_STEPS),
        kernel_seconds=None if kernels is None else sum(end - start for start, end in kernels) / PROFILED_STEPS,
        busy_seconds=None if kernels is None else covered(kernels) / PROFILED_STEPS,
        moved_bytes=moved_bytes,
        flops=flops,
    )


def _counts(steps: Steps) -> tuple[int, int]:
    """Return the bytes that a step moves, and its floating-point operations."""
    with FlopCounterMode(display=False) as flops:
        steps(1)
    with Traffic() as traffic:
        steps(1)
    return traffic.moved_bytes, flops.get_total_flops()


def measure_roofline(device: Device, size: int) -> Roofline:
    """Measure a copy of size² numbers, and the product of two matrices of size² numbers."""
    source = torch.randn(size, size, device=device.device)
    target = torch.empty_like(source)
    one, other = source.to(device.dtype), source.t().to(device.dtype)
    copy = best_of(lambda: target.copy_(source), device)
    product = best_of(lambda: one @ other, device)
    return Roofline(
        bytes_per_second=2 * source.numel() * source.element_size() / copy, flops_per_second=2 * size**3 / product
    )


def best_of(work: Callable[[], object], device: Device, times: int = 5) -> float:
    """Return the seconds of the fastest of some passes, after one that is not timed."""
    work()
    device.wait()
    return min(_timed(lambda _: work(), 1, device) for _ in range(times))


def _timed(steps: Steps, number: int, device: Device) -> float:
    device.wait()
    start = time.perf_counter()
    steps(number)
    device.wait()
    return time.perf_counter() - start


def _kernels(steps: Steps, device: Device) -> list[tuple[float, float]] | None:
    """Return start and end in seconds of what a GPU ran in some steps; none where there is no GPU."""
    if device.device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        steps(PROFILED_STEPS)
        device.wait()
    return [
        (event.time_range.start / 1e6, event.time_range.end / 1e6)
        for event in profiler.events()
        if event.device_type == DeviceType.CUDA
    ]


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return for how long at least one of some spans of time lasts."""
    total, last = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, last))
        last = max(last, end)
    return total


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write, each for itself, as they are when none is fused with another."""

    def __init__(self) -> None:
        super().__init__()
        self.moved_bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = function(*args, **(kwargs or {}))
        if not _moves_nothing(function):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, outputs)) if isinstance(leaf, Tensor)]
            self.moved_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return outputs


def _moves_nothing(function: Any) -> bool:
    """Whether an operation gives a view of what it takes, or memory that nothing is written to."""
    if function.overloadpacket.__name__.startswith(("empty", "new_empty")):
        return True
    aliases = [returned.alias_info for returned in function._schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
