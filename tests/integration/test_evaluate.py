"""`imginav evaluate`, as a user gives it, and the evaluation at the end of a run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imginav_tests import commands
from imginav_tests.phase1_5 import PHASE, SETTINGS, write_noise

RUN = Path("outputs") / "phase1_5_AE_final"
BEST = RUN / "phase1_5_AE_final_checkpoint_best.pt"

pytestmark = pytest.mark.integration

Run = Callable[..., "subprocess.CompletedProcess[str]"]

NOT_REPEATED = ("evaluated", "latency", "stop_reason", "best_epoch", "notes")
"""What differs between the end of a run and an evaluation of its checkpoint: times, and what only the run knows."""


def read(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(path.read_text())
    return {key: value for key, value in table.items() if key not in NOT_REPEATED}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a small Phase 1.5 once, on twelve layouts of noise; return its working folder."""
    folder = tmp_path_factory.mktemp("finished")
    write_noise(folder)
    sets = [part for setting in settings_of(folder) for part in ("--set", setting)]
    commands.run(["run", PHASE, *sets], cwd=folder).check_returncode()
    return folder


def settings_of(folder: Path) -> list[str]:
    return ["data.type=layouts", *SETTINGS, f"data.manifest={folder / 'layouts.csv'}"]


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    """Put a copy of that run into the working folder; return the list of its layouts."""
    shutil.copytree(finished / "outputs", tmp_path / "outputs")
    return finished / "layouts.csv"


def test_a_checkpoint_alone_is_worth_what_its_run_said(imginav: Run, trained: Path, tmp_path: Path) -> None:
    # A site file that lies about names other layouts; what the checkpoint was trained on counts.
    (tmp_path / "imginav.toml").write_text('[data]\ntype = "layouts"\nmanifest = "elsewhere.csv"\n')
    done = imginav("evaluate", BEST)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / RUN / "phase1_5_AE_final_checkpoint_best_evaluation"
    assert read(folder / "evaluation.json") == read(tmp_path / RUN / "evaluation.json")
    for name in ("interpolation.png", "worst.png", "best.png", "evaluation_layouts.csv", "curves.png"):
        assert (folder / name).read_bytes() == (tmp_path / RUN / name).read_bytes(), name
    assert f"look at     {folder.relative_to(tmp_path)}/report.html" in done.stdout
    assert "epoch 2 of 2" in done.stdout or "epoch 1 of 1" in done.stdout


def test_all_of_another_list_is_evaluated(imginav: Run, trained: Path, tmp_path: Path) -> None:
    lines = trained.read_text().splitlines()
    other = tmp_path / "others.csv"
    other.write_text("\n".join([lines[0], *(f"{trained.parent}/{line}" for line in lines[-3:])]) + "\n")
    done = imginav("evaluate", BEST, "--data", other, "--to", "elsewhere")
    assert done.returncode == 0, done.stderr
    evaluation = json.loads((tmp_path / "elsewhere" / "evaluation.json").read_text())
    assert evaluation["validation_layouts"] == evaluation["latent_statistics"]["layouts"] == 3
    assert "others.csv" in evaluation["data"]
    assert f"all 3 of 3 layouts from {other}" in done.stdout
    names = (tmp_path / "elsewhere" / "evaluation_layouts.csv").read_text().splitlines()
    assert len(names) == 4
    assert str(other) in (tmp_path / "elsewhere" / "report.html").read_text()


def test_a_setting_changes_what_is_measured_and_no_weights(imginav: Run, trained: Path, tmp_path: Path) -> None:
    done = imginav("evaluate", BEST, "--to", "less", settings=["evaluation.noise=[0.5]", "evaluation.latent_layouts=3"])
    assert done.returncode == 0, done.stderr
    less, whole = (read(tmp_path / folder / "evaluation.json") for folder in ("less", RUN))
    assert [noise["level"] for noise in less["latent_statistics"]["noise"]] == [0.0, 0.5]
    assert less["latent_statistics"]["layouts"] == 3
    assert less["metrics"] == whole["metrics"]


def test_a_run_is_evaluated_by_its_name(imginav: Run, trained: Path, tmp_path: Path) -> None:
    done = imginav("evaluate", RUN.name, "--to", "again")
    assert done.returncode == 0, done.stderr
    assert f"with {BEST}" in done.stdout
    assert (
        read(tmp_path / "again" / "evaluation.json")["metrics"] == read(tmp_path / RUN / "evaluation.json")["metrics"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.pt"], "nowhere.pt: no such checkpoint"),
        ([PHASE], "cannot be read as a checkpoint"),
        ([BEST, "--data", "nowhere.csv"], "data.manifest = 'nowhere.csv': no such file"),
        ([BEST, "--to", BEST], "cannot be made"),
        ([BEST, "--to", RUN], "whose own evaluation would be lost; name another folder"),
        ([BEST, "--set", "encoder.latent_channels=8"], "does not fit what its manifest now builds"),
        ([BEST, "--set", "evaluation.noise=[-1]"], "expected noise levels greater than 0, found -1"),
        ([BEST, "--set", "evaluation.metrics.nonsense={}"], "no metric 'nonsense' is installed"),
    ],
)
def test_what_cannot_be_evaluated_is_one_message(
    imginav: Run, trained: Path, arguments: list[str], message: str
) -> None:
    done = imginav("evaluate", *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_finished_run_whose_evaluation_is_gone_is_evaluated_and_not_trained(
    imginav: Run, trained: Path, tmp_path: Path
) -> None:
    before = read(tmp_path / RUN / "evaluation.json")
    weights = (tmp_path / BEST).read_bytes()
    (tmp_path / RUN / "evaluation.json").write_text('{"title": "of an earlier version"}')
    done = imginav("run", PHASE, settings=settings_of(trained.parent))
    assert done.returncode == 0, done.stderr
    assert "epoch 1/2" not in done.stdout
    assert read(tmp_path / RUN / "evaluation.json") == before
    assert (tmp_path / BEST).read_bytes() == weights
    assert not (tmp_path / "outputs" / "phase1_5_AE_final.1").exists()


def test_a_finished_run_without_evaluation_and_latest_checkpoint_is_no_reason_to_train_again(
    imginav: Run, trained: Path, tmp_path: Path
) -> None:
    command = ("run", PHASE)
    settings = settings_of(trained.parent)
    shutil.copy(tmp_path / RUN / "evaluation.json", tmp_path / "before.json")
    for name in ("evaluation.json", *(p.name for p in (tmp_path / RUN).glob("*_checkpoint_[lp]*.pt"))):
        (tmp_path / RUN / name).unlink()
    done = imginav(*command, settings=settings)
    assert done.returncode == 2
    assert f"imginav evaluate {BEST} --to {RUN} writes one" in done.stderr
    done = imginav("evaluate", BEST, "--to", RUN, "--set", "evaluation.latent_layouts=2")
    assert "whose own evaluation would be lost" in done.stderr
    done = imginav("evaluate", BEST, "--to", RUN)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / RUN / "evaluation.json") == read(tmp_path / "before.json")
    done = imginav(*command, settings=settings)
    assert done.returncode == 0, done.stderr
    assert "is finished already" in done.stdout
