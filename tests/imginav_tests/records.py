"""What runs and phases record."""

from __future__ import annotations

from typing import Any

from imginav.manifest.fingerprints import DataFingerprint, LayoutsFingerprint, SplitFingerprint
from imginav.manifest.winners import CandidateRecord, Metric, Winner
from imginav.runs.records import RunRecord

DATA = DataFingerprint(
    layouts=LayoutsFingerprint(rows=16, sha256="a" * 64, description="16 blocks"),
    split=SplitFingerprint(train=12, validation=4, by="scene", sha256="b" * 64),
)

METRIC = Metric(
    name="val_mse",
    mode="min",
    definition="mean squared error over all pixels of all whole validation layouts, in [-1, 1]",
)


def run_record(**changes: Any) -> RunRecord:
    """Return the record of a tiny run that has finished its two epochs."""
    found: dict[str, Any] = {
        "experiment": "tiny",
        "state": "finished",
        "manifest_sha256": "c" * 64,
        "data": DATA,
        "epoch": 2,
        "epochs": 2,
        "seconds": 1.0,
        "started": "2025-01-01T00:00:00+00:00",
        "updated": "2025-01-01T00:00:01+00:00",
        "code_version": "0.1.0",
        "host": "node-7",
        "process": 1,
    }
    return RunRecord(**{**found, **changes})


def candidate(mean: float | None, latent: str = "", state: str = "finished") -> CandidateRecord:
    """Return what a winner's record says of an experiment of one run."""
    return CandidateRecord(state=state, runs=("run",), values=() if mean is None else (mean,), mean=mean, latent=latent)


def winner(**changes: Any) -> Winner:
    """Return the winner of phase 1.1: L2, of two experiments."""
    found: dict[str, Any] = {
        "phase": "1.1",
        "source": "phases/1_1.toml",
        "winner": "L2",
        "chosen_by": "rule",
        "because": "it is the best",
        "date": "2025-01-01T00:00:00+00:00",
        "rule": "best val_mse (min)",
        "scale": "full",
        "code_version": "0.1.0",
        "manifest_sha256": "c" * 64,
        "values": {"encoder.latent_channels": 4},
        "metric": METRIC,
        "layouts": DATA.layouts,
        "split": DATA.split,
        "experiments": {"L1": candidate(0.02), "L2": candidate(0.01)},
    }
    return Winner(**{**found, **changes})
