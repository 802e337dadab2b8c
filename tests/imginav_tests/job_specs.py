"""Jobs as clusters are given them."""

from __future__ import annotations

from pathlib import Path

from imginav import JobSpec


def job_spec(*numbers: int, whole: bool = True, folder: Path = Path("outputs/group/jobs")) -> JobSpec:
    """Return the job of experiments with these numbers; several are an array."""
    return JobSpec(
        name="group" if len(numbers) > 1 else f"run_{numbers[0]}",
        heading="Phase 1 · Title",
        phase=Path("phases/1.toml"),
        arguments=("--set", "data.manifest=a b.csv"),
        elements={number: f"run_{number}" for number in numbers},
        whole=whole,
        folder=folder,
    )
