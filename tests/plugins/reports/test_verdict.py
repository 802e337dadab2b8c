"""The verdict on a run: its sentences and the commands that it names, case by case."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from imginav.manifest.tables import Machine
from imginav.runs.evaluation_result import Reconstruction
from imginav.training.device import open_device
from imginav_reports.environment import FILE as ENVIRONMENT
from imginav_reports.environment import current_environment
from imginav_reports.saved_runs import SavedRun
from imginav_reports.verdict import BLANK, quality, times_better, verdict_on, weakest
from imginav_tests import evaluations

SaveRun = Callable[..., SavedRun]


@pytest.mark.parametrize(
    ("error", "reference", "said"),
    [
        (0.00506, 0.2003, "39.6× better than a blank image"),
        (0.75173, 0.2919, "2.6× worse than a blank image"),
        (0.1, 0.104, "no better than a blank image"),
        (0.104, 0.1, "no better than a blank image"),
        (0.0001, 0.2, "2,000× better than a blank image"),
        (0.0, 0.2, "without any error, unlike a blank image"),
        (0.1, 0.0, "worse than a blank image, which has no error at all"),
        (0.0, 0.0, "as good as a blank image"),
        (math.nan, 0.2, ""),
        (0.1, math.inf, ""),
    ],
)
def test_a_ratio_is_said_as_better_or_worse(error: float, reference: float, said: str) -> None:
    assert times_better(error, reference, BLANK) == said


def test_two_runs_that_are_level_are_about_as_good() -> None:
    assert times_better(0.1, 0.102, "own") == "about as good as own"
    assert times_better(0.1, 0.12, "own") == "1.2× better than own"


def test_the_quality_is_beside_a_blank_image_and_beside_the_run_before(save_run: SaveRun) -> None:
    own = evaluations.evaluation(metrics={"val_mse": 0.01}, flat_background_mse=0.2)
    assert quality(own, None) == "Validation MSE 0.0100: 20× better than a blank image."
    assert quality(own, save_run("own", mse=0.02)) == (
        "Validation MSE 0.0100: 20× better than a blank image, and 2× better than own, the run before it on the same "
        "layouts."
    )
    assert quality(own, save_run("spoiled", mse=math.nan)) == "Validation MSE 0.0100: 20× better than a blank image."
    assert "not finite" in quality(attrs.evolve(own, metrics={"val_mse": math.nan}), None)
    assert quality(attrs.evolve(own, metrics={}), None) == ""


CLASSES = {"val_iou": {"bed": 0.97, "lighting": 0.775, "stool": math.nan}}


@pytest.mark.parametrize(
    ("metrics", "reconstruction", "said"),
    [
        ({}, {"by_class": CLASSES}, "Weakest: the class lighting, IoU 0.775."),
        ({"val_wall_recall": 0.5}, {"by_class": CLASSES}, "Weakest: walls, recall 0.500."),
        ({}, {"by_class": {"val_segmentation_iou": {"bed": 0.5}}}, "Weakest: the class bed, IoU 0.500."),
        ({}, {"by_class": {"val_iou": {"bed": 0.0, "sofa": 0.1}}}, "Weakest: the class bed, IoU 0."),
        (
            {"val_wall_recall": 0.0},
            {"by_class": {"val_iou": {"bed": 0.0, "sofa": 0.1, "stool": 0.0}}},
            "Weakest: the classes bed and stool, IoU 0.",
        ),
        (
            {},
            {"by_class": {"val_iou": dict.fromkeys(("bed", "desk", "sofa", "stool", "lamp"), 0.0)}},
            "Weakest: the classes bed, desk, sofa and 2 more, IoU 0.",
        ),
        (
            {},
            {"by_class": {"val_iou": {"bed": 0.995}}},
            "Nothing stands out as weak; the lowest value is the class bed, IoU 0.995.",
        ),
        (
            {"val_unmatched_share": 0.685},
            {"by_class": CLASSES},
            "68.5% of the validation pixels have the colour of no class: the palette does not fit the images.",
        ),
        (
            {"val_rebuilt_unmatched_share": 0.02},
            {"by_class": CLASSES},
            "Weakest: the class lighting, IoU 0.775; 2.0% of the rebuilt pixels have the colour of no class.",
        ),
        (
            {},
            {"by_type": {"room": {"val_psnr_db": 29.64}, "scene": {"val_psnr_db": 25.99}}},
            "Weakest: layouts of type scene, PSNR 26.0 dB.",
        ),
        ({}, {"by_type": {"room": {"val_psnr_db": 29.64}}}, ""),
        ({}, {}, ""),
    ],
)
def test_the_weakest_is_named(metrics: dict[str, float], reconstruction: dict[str, Any], said: str) -> None:
    assert weakest(evaluations.evaluation(metrics=metrics, reconstruction=Reconstruction(**reconstruction))) == said


def test_dead_channels_are_counted() -> None:
    assert weakest(evaluations.evaluation(latent_statistics=evaluations.latent())) == "1 of 2 latent channels is dead."


def commands(run: SavedRun, *, checkpoint: bool = True) -> list[str]:
    """Return the commands that the verdict on a run names, with what the folder is called left out."""
    assert run.evaluation is not None
    if checkpoint:
        for which in ("best", "latest"):
            (run.folder / f"{run.name}_checkpoint_{which}.pt").write_bytes(b"weights")
    steps = verdict_on(run.evaluation, run.folder, run).next_steps
    return [step.command.replace(str(run.folder.parent), "outputs") for step in steps]


EXPORT = "imginav export outputs/own"
PROBE = "imginav probe outputs/own"


def test_a_good_run_is_exported_or_probed(save_run: SaveRun) -> None:
    assert commands(save_run("own", mse=0.001)) == [EXPORT, PROBE]


def test_without_a_checkpoint_nothing_is_exported(save_run: SaveRun) -> None:
    assert commands(save_run("own", mse=0.001), checkpoint=False) == []


def test_a_run_that_was_still_improving_is_trained_longer_with_what_was_typed(
    save_run: SaveRun, tmp_path: Path
) -> None:
    first, *others = commands(save_run("own", "train.optimizer.learning_rate=0.5", "train.epochs=2", mse=0.05))
    words = shlex.split(first)
    assert words[:3] == ["imginav", "run", str(tmp_path / "tiny.toml")]
    assert words[words.index("--name") + 1] == "own_longer"
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    assert settings[-1] == "train.epochs=4"
    assert "train.optimizer.learning_rate=0.5" in settings
    assert not [setting for setting in settings if setting.startswith("phase.experiment")]
    assert others == [EXPORT, PROBE]


def test_a_run_that_is_worse_than_a_blank_image_and_no_longer_improves_is_trained_with_a_lower_rate(
    save_run: SaveRun,
) -> None:
    run = save_run("own", "train.optimizer.learning_rate=0.3", mse=0.5, best_epoch=1, weights_epoch=1)
    (only,) = commands(run)  # nobody wants to export it
    assert "--name own_slower" in only
    assert only.endswith("--set train.optimizer.learning_rate=0.1")


def as_trial(run: SavedRun, device: str, command: str = "imginav run 1.5") -> SavedRun:
    """Return a run as if it had been trained at trial scale, on drawn layouts, on this device and by this command."""
    assert run.resolution is not None
    trained_in = current_environment(open_device(Machine(device="cpu")), None)
    attrs.evolve(trained_in, device=device, command=command).save(run.folder / ENVIRONMENT)
    values = {**run.values, "data.type": "procedural"}
    return attrs.evolve(run, values=values, resolution=attrs.evolve(run.resolution, scale="trial"))


def test_on_a_gpu_the_full_scale_comes_after_a_trial(save_run: SaveRun) -> None:
    full, scan, *others = commands(as_trial(save_run("own", "train.epochs=2", mse=0.001), "NVIDIA H100"))
    assert "--full --name own" in full
    assert "train.epochs" not in full  # it is what makes the trial short
    assert scan == "imginav scan FOLDER"
    assert others == [EXPORT, PROBE]


def test_on_a_cpu_the_full_scale_comes_last(save_run: SaveRun) -> None:
    scan, export, probe, full = commands(as_trial(save_run("own", mse=0.001), "cpu"))
    assert (scan, export, probe) == ("imginav scan FOLDER", EXPORT, PROBE)
    assert "--full --name own" in full


@pytest.mark.parametrize("plugin", ["--plugin 'my loss.py'", "'--plugin=my loss.py'"])
def test_a_trial_is_trained_longer_as_a_trial_with_the_files_that_it_needs(save_run: SaveRun, plugin: str) -> None:
    command = f"imginav run 1.5 {plugin} --site lab.toml --name own"
    longer = next(c for c in commands(as_trial(save_run("own", mse=0.05), "cpu", command)) if "longer" in c)
    assert " --trial --name own_longer --plugin 'my loss.py' --site lab.toml --set " in longer


def test_a_quick_trial_is_trained_longer_as_a_quick_one(save_run: SaveRun) -> None:
    run = as_trial(save_run("own", mse=0.05), "cpu")
    assert run.resolution is not None
    origins = [attrs.evolve(o, origin="base.toml [quick]") for o in run.resolution.origins if o.origin == "default"]
    quick = attrs.evolve(run, resolution=attrs.evolve(run.resolution, origins=tuple(origins)))
    longer, full = (next(c for c in commands(quick) if what in c) for what in ("longer", "--full"))
    assert " --quick --name own_longer" in longer
    assert "--quick" not in full


def test_of_a_sweep_no_experiment_is_exported_by_itself(save_run: SaveRun) -> None:
    run = save_run("own", mse=0.001)
    assert run.resolution is not None
    origins = [attrs.evolve(o, origin="phases/1_1.toml [sweep] L2") for o in run.resolution.origins]
    sweep = attrs.evolve(run, resolution=attrs.evolve(run.resolution, origins=tuple(origins)))
    assert commands(sweep) == []


def test_where_pixels_have_no_class_a_palette_comes_first(save_run: SaveRun) -> None:
    run = save_run("own", mse=0.05, metrics={"val_mse": 0.05, "val_unmatched_share": 0.685})
    listed = attrs.evolve(run, values={**run.values, "data.manifest": "my plans/layouts.csv"})
    assert commands(listed)[0] == "imginav scan 'my plans'"
    assert not [command for command in commands(run) if "scan" in command]  # drawn layouts have no folder


def test_the_run_before_is_compared_value_by_value(save_run: SaveRun) -> None:
    save_run("before", mse=0.002, date="2026-01-01T00:00:00+00:00")
    run = save_run("own", mse=0.001, date="2026-01-02T00:00:00+00:00")
    assert commands(run)[-1] == "imginav diff outputs/before outputs/own"
    assert run.evaluation is not None
    assert "2× better than before" in verdict_on(run.evaluation, run.folder, run).sentences[0]


def test_of_a_checkpoint_alone_there_are_sentences_and_no_commands(tmp_path: Path) -> None:
    verdict = verdict_on(evaluations.evaluation(metrics={"val_mse": 0.01}), tmp_path)
    assert verdict.sentences
    assert verdict.next_steps == ()
