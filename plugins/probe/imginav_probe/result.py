"""`probe.json`: what a probe has measured of an autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import field, frozen

from imginav.manifest.json_record import load_record_of, save_record
from imginav.runs.evaluation_result import ProbeMetric

FILE = "probe.json"

VERSION = ("format", 1)


@frozen(kw_only=True)
class ProbeResult:
    """What a probe has measured, of what, and how."""

    probe: str  # the name of the component
    settings: dict[str, Any]  # its values in a manifest, but for those that are None
    source: str  # the checkpoint or export
    experiment: str
    latent: tuple[int, int, int]  # height, width, channels of a whole layout
    weights_sha256: str
    layouts_sha256: str
    device: str
    finished: bool = False
    seconds: float = 0.0  # of all attempts, embedding aside
    measured: str = ""  # when, UTC, ISO 8601
    code_version: str = ""
    metrics: dict[str, ProbeMetric] = field(factory=dict)  # by name, with the prefix probe_

    def is_of(self, other: ProbeResult) -> bool:
        """Whether both are of the same weights, layouts and settings."""
        keys = ("probe", "settings", "weights_sha256", "layouts_sha256")
        return all(getattr(self, key) == getattr(other, key) for key in keys)

    def save(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        save_record(folder / FILE, self, VERSION)


def load_result(folder: Path) -> ProbeResult:
    """Read a probe.json; raises UserError where there is none, or it is damaged."""
    return load_record_of(folder / FILE, ProbeResult, "the result of a probe", "give imginav probe again", VERSION)
