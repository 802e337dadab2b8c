"""Under which conditions encoding and decoding are measured."""

from __future__ import annotations

import itertools
import os
import shutil

import torch
from attrs import evolve, frozen

from imginav.manifest.tables import Machine
from imginav.training.device import Device, open_device

BATCHES, SIZES, PRECISIONS = (1, 4, 16), (256, 512, 1024), ("fp32", "bf16", "fp16")


@frozen
class Case:
    """One set of conditions."""

    batch: int
    size: int  # side of the images, in pixels
    precision: str
    channels_last: bool
    compiled: bool

    @property
    def label(self) -> str:
        """What a person calls it, and pytest's `-k` finds it by."""
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"b{self.batch}-{self.size}px-{self.precision}-{layout}-{'compiled' if self.compiled else 'eager'}"

    def open(self, name: str) -> Device:
        """Return the device of this name under these conditions."""
        return open_device(Machine(device=name, precision=self.precision, channels_last=self.channels_last))


def base_case(name: str) -> Case:
    """Return the conditions of a run's own latency: one layout of 512 pixels, as the device is used by default."""
    device = open_device(Machine(device=name))
    return Case(1, 512, device.precision, device.memory_format is torch.channels_last, compiled=False)


def cases_of(name: str, *, quick: bool, grid: bool) -> list[Case]:
    """Return the conditions to measure, the base case first: each one changed alone, or all of them in a grid."""
    base = base_case(name)
    if grid:
        every = itertools.product(BATCHES, SIZES, PRECISIONS, (False, True), (False, True))
        return list(dict.fromkeys([base, *(Case(*values) for values in every)]))
    if quick:
        return [base, evolve(base, batch=4), evolve(base, size=256)]
    alone = [
        *(evolve(base, batch=batch) for batch in BATCHES),
        *(evolve(base, size=size) for size in SIZES),
        *(evolve(base, precision=precision) for precision in PRECISIONS),
        evolve(base, channels_last=not base.channels_last),
        evolve(base, compiled=True),
    ]
    return list(dict.fromkeys([base, *alone]))


def missing(case: Case, name: str) -> str:
    """Return what the device lacks for a case, or nothing."""
    device = open_device(Machine(device=name)).device
    if case.precision != "fp32" and not _has(case.precision, device):
        return f"{device} has no {case.precision} arithmetic of its own"
    if case.compiled and device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        return "torch.compile needs a C++ compiler, such as Debian's package g++"
    return ""


def _has(precision: str, device: torch.device) -> bool:
    if device.type == "cuda":
        return precision == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    supported = {"bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported, "fp16": torch.ops.mkldnn._is_mkldnn_fp16_supported}
    return device.type == "cpu" and bool(supported[precision]())
