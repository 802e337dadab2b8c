"""Where and in which precision a run is computed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from attrs import frozen
from torch import Tensor, nn

from imginav.errors import UserError
from imginav.manifest.tables import Machine
from imginav.pixels import to_floats
from imginav.processes.children import describe_exit
from imginav.processes.distributed import ALONE, World

MOST_WORKERS = 8
"""Loading processes that `workers = "auto"` starts beside a GPU, at most."""

STEPS_TO_COMPILE = 3000
"""Compiling took a minute, and made a step of the original network 21 ms shorter on an H100 (docs/performance.md)."""

LOADING_PROCESS = "DataLoader worker"
"""With what torch's complaint about a loading process that is gone begins."""

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@frozen
class Device:
    """A device with its precision and memory format."""

    device: torch.device
    dtype: torch.dtype  # of the network's arithmetic under autocast; weights stay in fp32
    memory_format: torch.memory_format
    workers: int  # processes that load data
    parts: int = 1  # in which a batch is computed, one after the other, to save memory
    compiled: bool = False  # whether networks are compiled
    captures: bool = False  # whether the steps of a training are recorded as CUDA graphs
    world: World = ALONE  # the processes that compute together, each on a device of its own

    @property
    def scales_gradients(self) -> bool:
        """Whether small gradients need a scaler to be held by the precision."""
        return self.dtype is torch.float16

    @property
    def works_ahead(self) -> bool:
        """Whether it computes behind the program's back, so that reading a value means waiting."""
        return self.device.type != "cpu"

    @property
    def precision(self) -> str:
        """The precision's name in a manifest."""
        return next(name for name, dtype in _PRECISIONS.items() if dtype is self.dtype)

    @property
    def name(self) -> str:
        """What people call it: the GPU's name, or how many threads of a CPU it is."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        threads = torch.get_num_threads()
        return f"{self.device.type}, {threads} {'thread' if threads == 1 else 'threads'}"

    def autocast(self) -> torch.autocast:
        """Return the context in which the network runs."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32)

    def place(self, module: nn.Module) -> None:
        """Move a module here, in this memory format."""
        module.to(device=self.device)
        for parameter in module.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=self.memory_format)

    def compile(self, module: nn.Module) -> None:
        """Compile a module where networks are compiled, in place: its weights keep their names in checkpoints."""
        if self.compiled:
            module.compile()

    def wait(self) -> None:
        """Wait until all that was asked of the device is done; a GPU works behind the program's back."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def batch(self, sample_bytes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch of bytes as what networks and losses take, here.

        `rgb` (N, 3, H, W) is floats in [-1, 1]; class indices become integers of 64 bits.
        """
        moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in sample_bytes.items()}
        classes = {name: tensor.long() for name, tensor in moved.items() if name not in ("rgb", "colours")}
        return {"rgb": self.images({**moved, **classes}), **classes}

    def images(self, sample_bytes: Mapping[str, Tensor]) -> Tensor:
        """Return the images (N, 3, H, W) of a batch of bytes as floats in [-1, 1], here.

        They are its `rgb` (N, H, W, 3); without it, those that `colours` (256, 3) make of the class indices in
        `segmentation` (N, H, W), bit for bit the same.
        """
        if "rgb" in sample_bytes:
            images = to_floats(sample_bytes["rgb"].to(self.device, non_blocking=True))
        else:
            colours = to_floats(sample_bytes["colours"].to(self.device, non_blocking=True))
            classes = sample_bytes["segmentation"].to(self.device, non_blocking=True)
            images = nn.functional.embedding(classes.long(), colours)
        return images.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)

    def parts_of(self, batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Return the parts of a batch in which it is computed."""
        chunks = {name: tensor.chunk(self.parts) for name, tensor in batch.items()}
        return (dict(zip(chunks, part, strict=True)) for part in zip(*chunks.values(), strict=True))


def open_device(machine: Machine, steps: int = 0, world: World = ALONE) -> Device:
    """Return the device that a manifest asks for, for a run of so many optimizer steps.

    Of several processes each gets a GPU of its own. Raises UserError where this computer does not have it.
    """
    device = _device(machine.device if world.size == 1 else _name_of_own(machine.device, world))
    if world.size > 1 and device.type == "cuda":
        torch.cuda.set_device(device)
    compiled = _compiling_pays(device, steps) if machine.compile == "auto" else machine.compile
    if machine.threads:
        torch.set_num_threads(machine.threads)
    dtype = _auto_dtype(device) if machine.precision == "auto" else _PRECISIONS[machine.precision]
    workers = machine.workers if isinstance(machine.workers, int) else _auto_workers(device, world)
    # Measured (docs/performance.md): faster on a CPU and compiled, slower on a GPU as it stands.
    channels_last = device.type == "cpu" or compiled if machine.channels_last == "auto" else machine.channels_last
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    # A scaler reads its scale at each step, and processes that train together wait for each other within it.
    captures = machine.capture and device.type == "cuda" and world.size == 1 and dtype is not torch.float16
    return Device(device, dtype, memory_format, workers, machine.accumulate, compiled, captures, world)


@contextmanager
def limits_named() -> Iterator[None]:
    """Turn what torch raises where a machine is too small for what is inside into UserError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the GPU has too little memory ({str(error).partition('. ')[0]}): compute each batch in parts with "
            "machine.accumulate = 2, which changes no result, or take a smaller train.batch_size"
        ) from error
    except RuntimeError as error:
        if not str(error).startswith(LOADING_PROCESS):
            raise
        reason = " ".join(str(error).partition("\n")[0].split())
        raise UserError(
            f"a loading process {describe_exit(None)} ({reason}): take fewer machine.workers, and give the same "
            "command again"
        ) from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    remedy = "take 'auto', 'cpu' or a GPU that this machine has, such as 'cuda'"
    try:
        device = torch.device(name)
    except RuntimeError:  # whose text lists two dozen kinds of devices
        raise UserError(f"machine.device = {name!r} cannot be used: there is no such device; {remedy}") from None
    if device.type == "mps":
        raise UserError(
            f"machine.device = {name!r} is not supported: imginav sums metrics in double precision, which the GPUs of "
            "Apple do not have; take 'cpu'"
        )
    try:
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise UserError(f"machine.device = {name!r} cannot be used: {reason}; {remedy}") from error
    return device


def _name_of_own(name: str, world: World) -> str:
    """Return the name of the device of one of several processes."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    if name != "cuda":
        raise UserError(
            f"machine.device = {name!r} is one device for {world.size} processes; take 'auto', 'cuda' or 'cpu'"
        )
    gpus = torch.cuda.device_count()
    if world.local_size > gpus:
        raise UserError(
            f"{world.local_size} processes need as many GPUs on this machine, which has {gpus}; start fewer, or "
            "set machine.device = 'cpu'"
        )
    return f"cuda:{world.local_rank}"


def _auto_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if _computes_in_bf16(device) else torch.float32


def _computes_in_bf16(device: torch.device) -> bool:
    """Whether a device has arithmetic of its own for bf16, and does not emulate it, which is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # versions of torch before it do not tell
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def _compiling_pays(device: torch.device, steps: int) -> bool:
    """Whether a run is long enough to win back what compiling costs, where it can be compiled at all."""
    return device.type == "cuda" and steps >= STEPS_TO_COMPILE and bool(shutil.which(os.environ.get("CC", "gcc")))


def _auto_workers(device: torch.device, world: World) -> int:
    return 0 if device.type == "cpu" else min(MOST_WORKERS, max(1, len(os.sched_getaffinity(0)) // world.local_size))
