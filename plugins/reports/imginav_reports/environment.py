"""`environment.json`: where and how a run was trained, as its last attempt knows it when training has ended."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from attrs import field, frozen

from imginav.errors import UserError
from imginav.formatting import format_bytes, format_duration
from imginav.manifest.json_record import load_record_of, save_record
from imginav.plugin.commands import GROUP as COMMANDS
from imginav.plugin.discovery import DISABLE
from imginav.plugin.registry import GROUP
from imginav.runs.records import RunRecord
from imginav.training.device import Device

FILE = "environment.json"

VERSION = ("format", 1)

OWN = "imginav"
"""The distribution whose plugins need no mention."""

LIBRARIES = ("torch", "numpy", "pillow", "attrs", "cattrs", "torchmetrics")
"""Distributions that results or their reading depend on."""

BYTES_OF_RSS = 1 if sys.platform == "darwin" else 1024
"""Unit of `ru_maxrss`, which is the kibibyte everywhere but on macOS."""


@frozen(kw_only=True)
class Environment:
    """What a run was trained with, beside its manifest. It describes the last attempt, times apart."""

    command: str  # as typed, quoted for a shell
    folder: str  # the working folder, from which its relative paths count
    host: str
    platform: str
    python: str
    processor: str
    cores: int  # that this process may use
    device: str  # what was trained on: the GPU's name, or cpu
    precision: str
    processes: int  # that trained the run together
    cuda: str = ""  # the version that torch was built for; empty for a build without
    libraries: dict[str, str] = field(factory=dict)  # versions by distribution
    plugins: dict[str, str] = field(factory=dict)  # versions of the other distributions that provide plugins
    seconds: float | None = None  # wall time of all attempts, evaluation included
    peak_memory_bytes: int | None = None  # the most that the first process has occupied; None where it is not known
    peak_gpu_bytes: int | None = None  # the most that torch has allocated on its GPU; None without one

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What it says, for people: names and values; what is not known is left out."""
        peak, gpu = self.peak_memory_bytes, self.peak_gpu_bytes
        texts = {
            "command": self.command,
            "working folder": self.folder,
            "wall time": f"{format_duration(self.seconds)}, all attempts and the evaluation" if self.seconds else "",
            "peak memory": f"{format_bytes(peak)}{' of the first process' if self.processes > 1 else ''}"
            if peak
            else "",
            "peak GPU memory": format_bytes(gpu) if gpu else "",
            "device": f"{self.device}, {self.precision}",
            "processes": str(self.processes) if self.processes > 1 else "",
            "host": f"{self.host}, {self.platform}",
            "processor": f"{self.processor or 'unknown'}, {self.cores} cores",
            "Python": self.python,
            "CUDA": self.cuda,
            "libraries": ", ".join(f"{name} {version}" for name, version in self.libraries.items()),
            "other plugins": ", ".join(f"{name} {version}" for name, version in self.plugins.items()) or "none",
        }
        return [(name, text) for name, text in texts.items() if text]

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        save_record(path, self, VERSION)


def current_environment(device: Device, record: RunRecord | None) -> Environment:
    """Return the environment of this process, which has trained a run on a device; `record` is that of the run."""
    on_gpu = device.device.type == "cuda"
    return Environment(
        command=command_line(sys.argv),
        folder=str(Path.cwd()),
        host=socket.gethostname(),
        platform=platform.platform(),
        python=platform.python_version(),
        processor=processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        device=torch.cuda.get_device_name(device.device) if on_gpu else device.device.type,
        precision=device.precision,
        processes=device.world.size,
        cuda=torch.version.cuda or "",
        libraries=_versions(LIBRARIES),
        plugins=plugin_distributions(os.environ),
        seconds=_seconds(record),
        peak_memory_bytes=peak_memory(),
        peak_gpu_bytes=torch.cuda.max_memory_allocated(device.device) if on_gpu else None,
    )


def load_environment(path: Path) -> Environment | None:
    """Return what a run's folder says; None where it has no such file, or one that cannot be read."""
    try:
        return load_record_of(path, Environment, "the environment of a run", "move it away", VERSION)
    except UserError:
        return None


def command_line(arguments: Sequence[str]) -> str:
    """Return a command as it was typed, quoted for a shell; `python -m` in place of the path of a `__main__.py`."""
    program, *others = arguments or ("",)
    path = Path(program)
    words = ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]
    return shlex.join([*words, *others])


def processor() -> str:
    """Return the name of the processor; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def plugin_distributions(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of all distributions with plugins but imginav's own and those that are left out."""
    disabled = {name.strip() for name in environment.get(DISABLE, "").split(",")}
    found = {}
    for group in (GROUP, COMMANDS):
        for entry_point in importlib.metadata.entry_points(group=group):
            if entry_point.dist is None:
                continue
            name = entry_point.dist.metadata["Name"]
            if name != OWN and not disabled & {name, entry_point.name}:
                found[name] = entry_point.dist.version
    return dict(sorted(found.items()))


def peak_memory() -> int | None:
    """Return the most memory that this process has occupied so far, in bytes; None where the system does not tell."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_RSS


def _versions(distributions: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _seconds(record: RunRecord | None) -> float | None:
    """Return the wall time of a run that is about to end: what its record says, and what has passed since."""
    if record is None:
        return None
    try:
        since = (datetime.now(UTC) - datetime.fromisoformat(record.updated)).total_seconds()
    except (ValueError, TypeError):  # a record of another program
        since = 0.0
    return round(record.seconds + max(0.0, since), 1)
