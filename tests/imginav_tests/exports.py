"""What the record of an export says."""

from __future__ import annotations

from typing import Any

from imginav_handoff.export_folder import Agreement, ExportRecord


def export_record(**changes: Any) -> ExportRecord:
    """Return the record of an export of a tiny run as safetensors."""
    found: dict[str, Any] = {
        "format": "safetensors",
        "title": "Phase 0",
        "experiment": "tiny",
        "weights_epoch": 2,
        "checkpoint": "best.pt",
        "checkpoint_sha256": "a",
        "weights_sha256": "b",
        "exported": "2026-01-02T03:04:05+00:00",
        "code_version": "1",
        "torch_version": "2",
        "data": "some layouts",
        "lineage": ("phase 1.1, L2 won",),
        "golden_layout": "block 0",
        "precisions": {"fp32": Agreement(latent_error=0.0, pixels_off=0.0, largest_value=2.0)},
    }
    return ExportRecord(**{**found, **changes})
