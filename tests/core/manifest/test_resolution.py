"""What a resolved manifest says of itself, in its table and, of earlier versions, in its comments."""

from __future__ import annotations

import pytest
import tomli

from imginav.manifest.resolution import Resolution, resolution_of

ORIGINS = {"train.seed": "--set", "train.epochs": "phase.toml", "losses.mse.weight": "phase.toml"}

EARLIER = """# Resolved from folder, 2/phase.toml, at {scale} scale; beside each value, where it came from.
x = 1 # phase.toml; # odd
[train]
seed = 7 # --set
[train.optimizer]
type = "adam" # default
"""


@pytest.mark.parametrize("trial", [False, True])
def test_the_table_is_read_back(trial: bool) -> None:
    said = Resolution.of("phase.toml", ORIGINS, trial=trial)
    again = resolution_of("", {"resolved": said.table | {"origins": list(said.table["origins"])}})
    assert again == said
    assert again.by_key == ORIGINS
    assert [group.keys for group in said.origins] == [("train.seed",), ("train.epochs", "losses.mse.weight")]


@pytest.mark.parametrize("scale", ["full", "trial"])
def test_a_manifest_of_an_earlier_version_is_read_from_its_comments(scale: str) -> None:
    text = EARLIER.format(scale=scale)
    said = resolution_of(text, tomli.loads(text))
    assert said is not None
    assert (said.source, said.scale) == ("folder, 2/phase.toml", scale)
    assert said.by_key == {"x": "phase.toml; # odd", "train.seed": "--set", "train.optimizer.type": "default"}
    assert said.heading == text.partition("\n")[0].removeprefix("# ")


def test_another_manifest_says_nothing_of_itself() -> None:
    assert resolution_of("# a phase\n", {"train": {"seed": 7}}) is None
