"""Phases that train in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from imginav_tests.tiny import BASE

PHASE = 'phase = {{ id = "{number}", experiment = "{name}", group = "smalls" }}\n{base}{more}'

SWEEP = """
[sweep]
experiments.L1 = { "encoder.latent_channels" = 2 }
experiments.L2 = { "encoder.latent_channels" = 3 }
selector = { type = "best", metric = "val_mse", mode = "min" }
"""

OTHER = """
[callbacks]
checkpoint = {}
metrics_csv = {}

[quick]
train.batch_size = 3
"""


@pytest.fixture
def phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A phase of one experiment, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    Path("nine.toml").write_text(written("small"))
    return Path("nine.toml")


@pytest.fixture
def sweep(phase: Path) -> Path:
    """A phase of two experiments, of which the better one wins."""
    path = Path("sweep.toml")
    path.write_text(written("sweep", SWEEP))
    return path


@pytest.fixture
def study(phase: Path) -> Path:
    """A folder of phases with the numbers of imginav's own."""
    folder = Path("phases")
    folder.mkdir()
    third = 'experiments.L3 = { "encoder.latent_channels" = 4 }\n'
    (folder / "1_1.toml").write_text(written("channels", SWEEP + third, number="1.1"))
    (folder / "1_5.toml").write_text(written("final", number="1.5"))
    return folder


def written(name: str, more: str = "", number: str = "9") -> str:
    base = BASE.replace('type = "blocks"', 'type = "procedural"\ncount = 12')
    return PHASE.format(name=name, number=number, base=base, more=more + OTHER)
