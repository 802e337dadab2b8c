"""`imginav diff`: what two runs differ in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from imginav import UserError
from imginav.cli import main
from imginav.manifest.resolved import ResolvedManifest
from imginav.runs.experiment import run_experiment, run_folder
from imginav_inspect.run_difference import Figure, difference

pytestmark = pytest.mark.usefixtures("no_pages")

Resolve = Callable[..., ResolvedManifest]


@pytest.fixture
def runs(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, `own` and `own2`, of which the second was trained for longer; return their folder."""
    for name, epochs in (("own", 1), ("own2", 4)):
        settings = (f"phase.experiment={name}", f"train.epochs={epochs}", "train.optimizer.learning_rate=1e-2")
        run_experiment(resolve(*settings), log=lambda _: None)
    experiments = run_folder(resolve()).root.parent
    monkeypatch.chdir(experiments.parent)
    return experiments.relative_to(experiments.parent)


def test_values_and_metrics_that_differ_are_shown_by_name(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(runs / "own"), str(runs / "own2")]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert lines["train.epochs"] == ["train.epochs", "1", "4"]
    assert "phase.experiment" not in lines
    mse = lines["val_mse"]
    assert float(mse[1]) > float(mse[2])
    assert mse[3] == "better"
    assert "trained for" in out
    found = difference("own", str(runs / "own2"), runs)
    assert found.same_data
    assert found.values == {"train.epochs": [1, 4]}
    assert {figure.name: figure.better for figure in found.figures}["val_psnr_db"] == "second"


def test_it_is_json_for_programs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(runs / "own2"), str(runs / "own"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["runs"] == ["experiments/own2", "experiments/own"]
    assert shown["values"] == {"train.epochs": [4, 1]}
    assert shown["metrics"]["val_mse"]["better"] == "first"
    assert shown["same_data"] is True


def test_metrics_of_other_layouts_are_not_said_to_be_better(
    runs: Path, resolve: Resolve, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(resolve("phase.experiment=other", "data.count=12"), log=lambda _: None)
    assert main(["diff", str(runs / "own"), str(runs / "other")]) == 0
    out = capsys.readouterr().out
    assert "trained on other layouts or another split (16 layouts; 12 layouts): their metrics cannot be compared" in out
    assert "better" not in out


def test_what_is_no_run_is_one_sentence_with_those_that_there_are(runs: Path) -> None:
    with pytest.raises(
        UserError, match=r"^own3: is neither a run folder .* did you mean 'own.*; the runs in experiments"
    ):
        difference("own", "own3", runs)
    with pytest.raises(UserError, match=r"^experiments: is not a run folder: it holds no manifest.toml"):
        difference(str(runs), "own", runs)


@pytest.mark.parametrize(
    ("first", "second", "more", "better"),
    [(1.0, 2.0, True, "second"), (1.0, 2.0, False, "first"), (2.0, 2.0, True, ""), (1.0, 2.0, None, "")],
)
def test_the_better_one_depends_on_the_direction(first: float, second: float, more: bool | None, better: str) -> None:
    assert Figure(name="m", first=first, second=second, more_is_better=more).better == better
