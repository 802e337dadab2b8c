"""What the tests of probes share."""

from __future__ import annotations

import pytest

from imginav_probe import features
from imginav_probe.flow_probe import FlowProbe


@pytest.fixture
def tiny_probe(monkeypatch: pytest.MonkeyPatch) -> FlowProbe:
    """Return a probe that takes a second, on features that are hardly trained."""
    monkeypatch.setattr(features, "STEPS", 5)
    monkeypatch.setattr(features, "BATCH", 8)
    return FlowProbe(steps=4, batch_size=4, width=64, depth=1, samples=16, seeds=2)
