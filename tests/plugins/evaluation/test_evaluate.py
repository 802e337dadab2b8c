"""The evaluation of a run's weights: figures, pictures, and what happens when something is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imginav import UserError
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.components import Sample
from imginav.processes.stop_request import Interrupted
from imginav.runs.evaluation_result import EvaluationResult
from imginav.runs.experiment import build_trainer
from imginav.training.trainer import Trainer
from imginav_evaluation.error_maps import LARGEST_ERROR, error_map
from imginav_evaluation.evaluate import Weights, evaluate
from imginav_tests.csv_tables import read_table

Resolve = Callable[..., ResolvedManifest]


@pytest.fixture
def evaluated(resolve: Resolve, tmp_path: Path) -> Callable[..., tuple[EvaluationResult, Trainer, Path]]:
    """Evaluate the untrained tiny autoencoder, with settings over it."""

    def evaluated(*settings: str, timed: bool = False) -> tuple[EvaluationResult, Trainer, Path]:
        resolved = resolve(*settings)
        trainer = build_trainer(resolved, log=lambda _: None)
        folder = tmp_path / "evaluated"
        folder.mkdir()
        return evaluate(Weights.of(trainer), resolved, folder, timed=timed), trainer, folder

    return evaluated


Evaluated = Callable[..., tuple[EvaluationResult, Trainer, Path]]


def test_every_part_is_measured_and_drawn(evaluated: Evaluated) -> None:
    evaluation, trainer, folder = evaluated("evaluation.extremes=3", timed=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.png",
        "evaluation_layouts.csv",
        "interpolation.png",
        "worst.png",
    ]
    assert evaluation.latent == (8, 8, 2)
    latent, ways = evaluation.latent_statistics, evaluation.interpolation
    assert latent is not None
    assert latent.layouts == len(trainer.data.split.train)
    assert latent.sampled_layouts == len(trainer.data.split.validation)
    assert [noise.level for noise in latent.noise] == [0, 0.05, 0.1, 0.2]
    assert latent.noise[0].mse == pytest.approx(evaluation.metrics["val_mse"], rel=1e-5)
    assert ways is not None
    assert len(ways.pairs) == 2  # of four validation layouts
    assert ways.straight >= 1
    assert evaluation.size is not None
    assert evaluation.latency_ms
    assert evaluation.latency_ms > 0
    assert sum(evaluation.reconstruction.layouts.values()) == 4
    assert len(evaluation.reconstruction.worst) == len(evaluation.reconstruction.best) == 3
    assert evaluation.data == trainer.data.source.describe()
    assert evaluation.evaluated
    assert evaluation.code_version


def test_figures_agree_with_those_of_an_epoch(evaluated: Evaluated) -> None:
    evaluation, trainer, folder = evaluated("train.batch_size=3")
    assert {name: evaluation.metrics[name] for name in trainer.validate()} == trainer.validate()
    assert {"val_l1", "val_psnr_mean_db"} <= set(evaluation.metrics)
    rows = read_table(folder / "evaluation_layouts.csv")
    assert [row["layout"] for row in rows] == [f"block {index}" for index in trainer.data.split.validation]
    errors = {row["layout"]: float(row["val_mse"]) for row in rows}
    assert np.mean(list(errors.values())) == pytest.approx(evaluation.metrics["val_mse"], rel=1e-5)
    worst = evaluation.reconstruction.worst[0]
    assert (worst.name, worst.mse) == (max(errors, key=errors.__getitem__), pytest.approx(max(errors.values())))
    assert {row["type"] for row in rows} <= {"room", "scene"}
    by_type = evaluation.reconstruction.by_type
    for kind in by_type:
        own = [errors[row["layout"]] for row in rows if row["type"] == kind]
        assert by_type[kind]["val_mse"] == pytest.approx(np.mean(own), rel=1e-5)


def test_an_evaluation_changes_no_weights_and_is_the_same_again(resolve: Resolve, tmp_path: Path) -> None:
    resolved = resolve("encoder.variational=true")
    trainer = build_trainer(resolved, log=lambda _: None)
    weights = [p.clone() for p in trainer.model.parameters()]
    random = torch.get_rng_state()
    one, two = (evaluate(Weights.of(trainer), resolved, tmp_path, timed=False) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(weights, trainer.model.parameters(), strict=True))
    assert torch.equal(random, torch.get_rng_state())
    assert one.metrics == pytest.approx(two.metrics, rel=0, abs=0, nan_ok=True)
    assert one.latent_statistics == two.latent_statistics
    assert one.interpolation == two.interpolation
    assert one.latent_statistics is not None
    assert all(c.kl is not None and c.posterior_std is not None for c in one.latent_statistics.channels)


def test_fewer_training_layouts_are_encoded_where_that_is_asked_for(evaluated: Evaluated) -> None:
    evaluation, _, _ = evaluated("evaluation.latent_layouts=5", "evaluation.sampled_layouts=2")
    assert evaluation.latent_statistics is not None
    assert (evaluation.latent_statistics.layouts, evaluation.latent_statistics.sampled_layouts) == (5, 2)


def test_whole_layouts_are_measured_where_crops_are_trained_on(evaluated: Evaluated) -> None:
    evaluation, trainer, _ = evaluated("data.crop=16")
    assert trainer.data.whole_batch_size == 1
    assert evaluation.latent == (8, 8, 2)
    assert evaluation.latent_statistics is not None
    assert evaluation.latent_statistics.layouts == len(trainer.data.split.train)


def test_an_autoencoder_without_pixels_has_figures_all_the_same(evaluated: Evaluated) -> None:
    evaluation, _, folder = evaluated("decoder.heads.rgb=false", "losses.mse=false")
    assert sorted(path.name for path in folder.iterdir()) == ["evaluation_layouts.csv"]
    assert "val_mse" not in evaluation.metrics
    assert math.isfinite(evaluation.metrics["val_loss"])
    assert evaluation.interpolation is None
    assert "pixels" in evaluation.reconstruction.not_measured
    assert evaluation.latent_statistics is not None
    assert evaluation.latent_statistics.noise == ()


def test_a_single_validation_layout_is_its_own_pair(evaluated: Evaluated) -> None:
    evaluation, _, folder = evaluated("data.count=3", "train.split=0.7", "train.split_by=layout")
    assert evaluation.validation_layouts == 1
    assert evaluation.interpolation is not None
    assert [(pair.first, pair.second) for pair in evaluation.interpolation.pairs] == [
        (f"block {n}",) * 2 for n in (evaluation.reconstruction.worst[0].name.split()[1],)
    ]
    assert math.isnan(evaluation.interpolation.straight)
    assert (folder / "interpolation.png").is_file()


def test_what_cannot_be_read_is_left_out_under_the_right_names(
    resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One layout a batch, so that one batch is empty.
    resolved = resolve("data.on_bad='skip'", "data.count=24", "train.batch_size=1")
    trainer = build_trainer(resolved, log=lambda _: None)
    first, *others = trainer.data.split.validation
    read = trainer.data.source.read

    def without_the_first(index: int) -> Sample:
        if index == first:
            raise UserError(f"block {index} cannot be read")
        return read(index)

    monkeypatch.setattr(trainer.data.source, "read", without_the_first)
    evaluation = evaluate(Weights.of(trainer), resolved, tmp_path, timed=False)
    rows = read_table(tmp_path / "evaluation_layouts.csv")
    assert [row["layout"] for row in rows] == [f"block {index}" for index in others]
    assert evaluation.notes == (f"block {first} cannot be read",)
    assert evaluation.interpolation is not None
    assert evaluation.interpolation.pairs[0].first == f"block {others[0]}"


def test_an_evaluation_is_left_where_the_run_is_asked_to(resolve: Resolve, tmp_path: Path) -> None:
    resolved = resolve()
    trainer = build_trainer(resolved, log=lambda _: None)
    trainer._stop_request.ask("SIGTERM")
    with pytest.raises(Interrupted, match="SIGTERM"):
        evaluate(Weights.of(trainer), resolved, tmp_path, timed=False)


def test_the_pictures_show_layouts_beside_what_became_of_them(evaluated: Evaluated) -> None:
    evaluation, trainer, folder = evaluated("evaluation.extremes=2", "evaluation.steps=4", "evaluation.pairs=1")
    worst = np.array(Image.open(folder / "worst.png"))
    pixels = trainer.data.source.read(int(evaluation.reconstruction.worst[0].name.split()[1]))["rgb"]
    shown = np.array(Image.fromarray(pixels).resize((160, 160), Image.Resampling.NEAREST))
    assert worst.shape == (18 + 2 * (160 + 18) + 4, 4 + 4 * 164, 3)
    assert np.array_equal(worst[36:196, 4:164], shown)
    strip = np.array(Image.open(folder / "interpolation.png"))
    assert strip.shape == (18 + 2 * (160 + 18) + 4, 4 + 6 * 164, 3)


def test_error_maps_are_dark_where_nothing_is_wrong() -> None:
    image = torch.zeros(1, 3, 4, 4)
    wrong = image.clone()
    wrong[..., 2:] += LARGEST_ERROR / 2
    wrong[..., 3:] += LARGEST_ERROR
    brightness = error_map(wrong, image).astype(int).sum(axis=-1)
    assert (brightness[:, 0] == brightness[0, 0]).all()
    assert brightness[0, 0] < 10 < brightness[0, 2] < brightness[0, 3]
