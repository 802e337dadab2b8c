"""`imginav.evaluate` and `imginav.probe`, as Python users call them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import imginav
from imginav import Run, UserError
from imginav_tests.records import run_record

MakeCheckpoint = Callable[..., Path]

DATA = ("data.type=procedural", "data.image_size=32", "data.count=12")


@pytest.fixture
def run(make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    folder = make_checkpoint(*DATA, name="outputs/own").parent
    run_record(experiment="own").save(folder / "run.json")
    monkeypatch.chdir(tmp_path)
    return imginav.open_run("own")


@pytest.mark.parametrize("given", ["run", "name", "folder", "checkpoint"])
def test_a_run_is_evaluated_as_the_command_does(run: Run, given: str) -> None:
    checkpoint = run.folder / "tiny_checkpoint_best.pt"
    weights = {"run": run, "name": "own", "folder": run.folder, "checkpoint": checkpoint}[given]
    evaluated = imginav.evaluate(weights)
    assert evaluated.folder == run.folder / "tiny_checkpoint_best_evaluation"
    assert evaluated.evaluation.metrics == run.evaluation.metrics
    assert "srcdoc=" in evaluated.report._repr_html_()
    assert evaluated._repr_html_().count("data:image/png;base64,") >= 1


def test_other_layouts_and_other_settings_are_evaluated(
    run: Run, write_layouts: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{"layout_path": f"{number}.png", "type": "room"} for number in range(5)]
    evaluated = imginav.evaluate(run, write_layouts(rows), to="others", settings={"evaluation.noise": [0.5]})
    assert evaluated.evaluation.validation_layouts == 5
    latent = evaluated.evaluation.latent_statistics
    assert latent is not None
    assert [level.level for level in latent.noise] == [0.0, 0.5]


def test_what_cannot_be_evaluated_is_refused(run: Run) -> None:
    evaluated = imginav.evaluate(run, to="elsewhere")
    with pytest.raises(UserError, match="elsewhere: is an evaluation; name the run or the checkpoint that it is of"):
        imginav.evaluate(evaluated)
    with pytest.raises(UserError, match=r"gone\.pt: no such checkpoint"):
        imginav.evaluate("gone.pt")
    with pytest.raises(UserError, match="whose own evaluation would be lost"):
        imginav.evaluate(run, to=run.folder, settings={"evaluation.noise": [0.5]})


@pytest.mark.slow
def test_latents_are_probed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = imginav.probe(run, steps=2, seeds=1, samples=16, to="probed")
    assert result.finished
    assert (result.settings["steps"], result.settings["samples"]) == (2, 16)
    assert len(result.metrics["probe_fdd"].values) == 1
    assert "look at probed" in capsys.readouterr().out


def test_what_cannot_be_probed_is_refused(run: Run) -> None:
    with pytest.raises(UserError, match="probe: name at least one run, checkpoint, export or phase"):
        imginav.probe()
    with pytest.raises(UserError, match=r"--stpes 3: .* did you mean 'steps'"):
        imginav.probe(run, stpes=3)
    with pytest.raises(UserError, match="--steps"):
        imginav.probe(run, steps="many")
