"""Runs as Python sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import imginav
from imginav import Run, UserError
from imginav_tests.evaluations import evaluation
from imginav_tests.records import run_record

MakeCheckpoint = Callable[..., Path]


@pytest.fixture
def run(make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run `own` in the working folder: two epochs, of weights as initialised."""
    folder = make_checkpoint(name="outputs/own").parent
    run_record(experiment="own").save(folder / "run.json")
    (folder / "own_metrics.csv").write_text("epoch,val_mse\n1,0.5\n2,0.25\n")
    for name in ("curves.png", "other.png"):
        Image.new("RGB", (2, 2)).save(folder / name)
    monkeypatch.chdir(tmp_path)
    return imginav.open_run("own")


def test_it_is_what_its_files_say(run: Run) -> None:
    assert (run.folder, run.name, run.state, run.record.epochs) == (Path("outputs/own"), "own", "finished", 2)
    assert run.metrics["val_mse"] == [0.5, 0.25]
    assert run.evaluation.experiment == "tiny"
    assert run.report.path == Path("outputs/own/report.html")
    image = torch.zeros(1, 3, 32, 32)
    assert torch.equal(run.model.encode(image), imginav.load("own").encode(image))
    assert run.model is run.model


def test_it_is_read_anew(run: Run) -> None:
    with (run.folder / "own_metrics.csv").open("a") as stream:
        stream.write("3,0.125\n")
    assert run.metrics[-1] == {"epoch": 3, "val_mse": 0.125}


def test_a_notebook_shows_its_summary_and_its_pictures(run: Run) -> None:
    shown = run._repr_html_()
    assert "val MSE" in shown
    assert shown.count("data:image/png;base64,") == 2  # its curves and its worst layouts


def test_a_run_that_goes_on_has_a_state_and_no_evaluation(run: Run) -> None:
    (run.folder / "evaluation.json").unlink()
    run_record(experiment="own", state="interrupted", epoch=1).save(run.folder / "run.json")
    with pytest.raises(UserError, match=r"evaluation\.json: cannot be read"):
        run.evaluation  # noqa: B018  # that is what is tried
    assert "<pre>own: interrupted, epoch 1 of 2</pre>" in run._repr_html_()


def test_without_metrics_the_table_is_empty(run: Run) -> None:
    (run.folder / "own_metrics.csv").unlink()
    assert len(run.metrics) == 0


def test_a_run_that_has_never_begun_is_told(run: Run) -> None:
    (run.folder / "run.json").unlink()
    with pytest.raises(UserError, match=r"outputs/own: holds no run\.json"):
        run.state  # noqa: B018  # that is what is tried
    assert run._repr_html_()


def test_runs_are_opened_by_folder_too_and_others_are_refused(run: Run) -> None:
    assert imginav.open_run("outputs/own").folder == imginav.open_run(run.folder).folder == run.folder
    with pytest.raises(UserError, match="onw: is neither a file or folder here nor a run in outputs, did you"):
        imginav.open_run("onw")
    with pytest.raises(UserError, match="outputs: is neither a file or folder here nor a run"):
        imginav.open_run("outputs")


def test_all_runs_are_listed(run: Run) -> None:
    other = Path("outputs/other")
    other.mkdir()
    run_record(state="failed", epoch=1).save(other / "run.json")
    evaluation(metrics={"val_mse": 0.5}).save(run.folder / "evaluation.json")
    (Path("outputs") / "own.1").mkdir()
    run_record().save(Path("outputs/own.1/run.json"))
    rows = list(imginav.list_runs())
    assert rows == [
        {"run": "other", "state": "failed", "epoch": 1, "epochs": 2},
        {
            "run": "own",
            "state": "finished",
            "epoch": 2,
            "epochs": 2,
            "val_mse": 0.5,
            "latent": "8×8×2",
            "evaluated": "",
        },
    ]
    Path("site.toml").write_text('output.experiments = "elsewhere"')
    assert len(imginav.list_runs(site="site.toml")) == 0
    with pytest.raises(UserError, match="own: is neither a file or folder here nor a run in elsewhere"):
        imginav.open_run("own", site="site.toml")
