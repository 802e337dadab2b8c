"""`imginav run`, from the command line to what it leaves behind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tomli
import torch
from PIL import Image

from imginav import cli
from imginav.manifest.loading import load
from imginav.model.autoencoder import build_autoencoder
from imginav.plugin.checkpoint import load_checkpoint
from imginav.plugin.registry import installed
from imginav.runs.experiment import build_trainer
from imginav.seeds import Seeds
from imginav.training.optimization import Optimization
from imginav_tests.csv_tables import TIMES, read_table
from imginav_tests.phase1_5 import PHASE, SETTINGS

SMALL = (*SETTINGS, "train.optimizer.learning_rate=2e-3")

pytestmark = pytest.mark.integration

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_run_leaves_every_deliverable_under_its_name(imginav: Run, layouts: Path, tmp_path: Path) -> None:
    (tmp_path / "imginav.toml").write_text(f'[data]\ntype = "layouts"\nmanifest = "{layouts}"\n')
    done = imginav("run", PHASE, settings=[*SMALL, "train.epochs=6"])
    assert done.returncode == 0, done.stderr
    own, shared = tmp_path / "outputs" / "phase1_5_AE_final", tmp_path / "outputs" / "phase1_5_final_training"
    assert sorted(str(p.relative_to(own)) for p in own.rglob("*") if p.is_file()) == [
        "best.png",
        "curves.png",
        "environment.json",
        "evaluation.json",
        "evaluation_layouts.csv",
        "interpolation.png",
        "manifest.toml",
        "phase1_5_AE_final_checkpoint_best.pt",
        "phase1_5_AE_final_checkpoint_epoch_005.pt",
        "phase1_5_AE_final_checkpoint_latest.pt",
        "phase1_5_AE_final_checkpoint_previous.pt",
        "phase1_5_AE_final_metrics.csv",
        "phase1_5_AE_final_steps.csv",
        "report.html",
        "run.json",
        "samples/epoch_005.png",
        "samples/epoch_006.png",
        "worst.png",
    ]
    for name, copy in (
        ("phase1_5_AE_final_metrics.csv", "phase1_5_AE_final_metrics.csv"),
        ("samples/epoch_005.png", "samples/phase1_5_AE_final_epoch_005.png"),
        ("report.html", "phase1_5_AE_final_report.html"),
    ):
        assert (shared / copy).read_bytes() == (own / name).read_bytes()
    comparison = {"comparison.csv", "comparison_curves.png", "comparison_layouts.png"}
    assert comparison | {"report.html"} <= {path.name for path in shared.iterdir()}
    assert not (shared / "winner.toml").exists()  # a single run has nobody to win against

    rows = read_table(own / "phase1_5_AE_final_metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert float(rows[-1]["val_mse"]) < float(rows[0]["val_mse"])
    assert "trial scale" not in done.stdout
    assert "12 layouts from" in done.stdout
    for expected in ("epoch 6/6", "val MSE", "PSNR", "16×16×4 (H×W×C)", "in the encoder", "report.html"):
        assert expected in done.stdout
    resolved = tomli.loads((own / "manifest.toml").read_text())
    assert resolved["data"]["manifest"] == str(layouts)
    with Image.open(own / "curves.png") as curves:
        assert curves.width > 800


def test_the_last_word_of_a_run_is_true_of_the_weights_that_it_leaves(
    imginav: Run, layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A learning rate at which the loss jumps about, so that the best epoch is not the last.
    settings = [*SMALL, "data.type=layouts", f"data.manifest={layouts}", "train.epochs=30"]
    settings += ["train.optimizer.learning_rate=1", "callbacks.early_stopping.patience=2"]
    done = imginav("run", PHASE, settings=settings)
    assert done.returncode == 0, done.stderr
    own = tmp_path / "outputs" / "phase1_5_AE_final"
    rows = read_table(own / "phase1_5_AE_final_metrics.csv")
    losses = [float(row["val_loss"]) for row in rows]
    best = losses.index(min(losses)) + 1
    # The epoch in which it stops is in the file, two after the last that was better by min_delta.
    assert best < len(rows) < 30
    assert "early stopping: val_loss has not improved" in done.stdout

    evaluation = json.loads((own / "evaluation.json").read_text())
    assert evaluation["weights_epoch"] == evaluation["best_epoch"] == best
    assert evaluation["metrics"]["val_loss"] == pytest.approx(min(losses), rel=1e-5)
    checkpoint = load_checkpoint(own / "phase1_5_AE_final_checkpoint_best.pt")
    assert checkpoint.epoch == best

    # A stranger rebuilds the model from the checkpoint alone, and measures the same.
    monkeypatch.chdir(tmp_path)
    Path("from_checkpoint.toml").write_text(checkpoint.manifest)
    trainer = build_trainer(load(Path("from_checkpoint.toml"), installed()), log=lambda _: None)
    trainer.model.load_state_dict(checkpoint.model)
    assert trainer.validate()["val_mse"] == pytest.approx(evaluation["metrics"]["val_mse"], rel=1e-5)


def test_two_runs_with_one_seed_have_identical_metrics_but_for_times(imginav: Run, tmp_path: Path) -> None:
    settings = [*SMALL, "data.image_size=256", "data.crop=64", "data.count=12"]
    for again in ((), ("--resume", "never")):
        done = imginav("run", PHASE, *again, settings=settings)
        assert done.returncode == 0, done.stderr
        assert "trial scale" in done.stdout
    assert "the earlier run is kept in outputs/phase1_5_AE_final.1" in done.stdout
    first, second = (
        read_table(tmp_path / "outputs" / name / "phase1_5_AE_final_metrics.csv", without=TIMES)
        for name in ("phase1_5_AE_final.1", "phase1_5_AE_final")
    )
    assert first == second


def test_a_missing_and_a_cut_off_layout_are_named_before_training(imginav: Run, layouts: Path, tmp_path: Path) -> None:
    (layouts.parent / "layout 3.png").unlink()
    whole = (layouts.parent / "layout 5.png").read_bytes()
    (layouts.parent / "layout 5.png").write_bytes(whole[: len(whole) // 2])
    done = imginav("run", PHASE, settings=[*SMALL, "data.type=layouts", f"data.manifest={layouts}"])
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"imginav: {layouts}: 2 of 12 layouts cannot be used (1 missing, 1 cut off); mend them, take their rows out "
        "of the list, or leave them out with data.on_bad = 'skip':",
        f"  line 5: missing: {layouts.parent}/layout 3.png",
        f"  line 7: cut off: {layouts.parent}/layout 5.png",
    ]
    assert not (tmp_path / "outputs").exists()


def test_an_unmatched_colour_is_counted_and_shown_and_does_not_stop_a_run(
    imginav: Run, layouts: Path, tmp_path: Path
) -> None:
    for path in layouts.parent.glob("*.png"):
        pixels = np.array(Image.open(path))
        pixels[:16] = (255, 0, 255)
        Image.fromarray(pixels).save(path)
    own = [*SMALL, "data.type=layouts", f"data.manifest={layouts}", "data.unmatched_limit=0.3"]
    done = imginav("run", PHASE, settings=own)
    assert done.returncode == 0, done.stderr
    assert "25.000% of validation pixels have the colour of no class" in done.stdout
    rows = read_table(tmp_path / "outputs" / "phase1_5_AE_final" / "phase1_5_AE_final_metrics.csv")
    assert {row["val_unmatched_share"] for row in rows} == {"0.25"}
    assert all(np.isfinite(float(row["train_loss_segmentation"])) for row in rows)


def test_a_layout_that_breaks_behind_a_whole_look_stops_with_its_row(imginav: Run, layouts: Path) -> None:
    path = layouts.parent / "layout 1.png"
    damaged = bytearray(path.read_bytes())
    damaged[60:80] = bytes(20)
    path.write_bytes(damaged)
    done = imginav("run", PHASE, settings=[*SMALL, "data.type=layouts", f"data.manifest={layouts}"])
    assert done.returncode == 2
    assert re.search(r"imginav: .*layouts.csv: line 3: .*layout 1.png cannot be read \(", done.stderr)
    assert "Traceback" not in done.stderr


def test_scenes_of_the_list_are_kept_together(
    imginav: Run, layouts: Path, write_list: Callable[[Path, list[dict[str, str]]], None]
) -> None:
    rows = [
        {"layout_path": f"layout {n}.png", "type": "room", "scene_id": f"flat {n // 3}", "room_count": str(n)}
        for n in range(12)
    ]
    write_list(layouts, rows)
    settings = [*SMALL, "data.type=layouts", f"data.manifest={layouts}", "data.filters.room_count__ge=3"]
    done = imginav("run", PHASE, settings=[*settings, "train.split=0.6", "train.epochs=1"])
    assert done.returncode == 0, done.stderr
    assert "9 layouts from" in done.stdout
    assert "3 rows left out by filters" in done.stdout
    assert "6 train, 3 validate, split by scene" in done.stdout


def test_trial_scale_can_be_forced_on_own_layouts(imginav: Run, layouts: Path) -> None:
    settings = [
        *SMALL,
        "data.type=layouts",
        f"data.manifest={layouts}",
        "data.count=6",
        "data.crop=32",
        "train.split=0.5",
    ]
    done = imginav("run", "--trial", PHASE, settings=settings)
    assert done.returncode == 0, done.stderr
    assert "trial scale" in done.stdout
    assert "6 rows left out by filters or count" in done.stdout


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("encoder.latent_chanels=8", "unknown key 'latent_chanels', did you mean 'latent_channels'?"),
        ("losses.kld={}", "losses.kld reads the output 'mean', which does not exist"),
        ("losses.perceptual={ weights = 'vgg.pth' }", "the perceptual loss needs vgg.pth, which does not exist"),
        ("data.manifest=nowhere.csv", "data.manifest = 'nowhere.csv': no such file"),
        ("machine.device=cuda:99", "machine.device = 'cuda:99' cannot be used"),
        ("output.experiments=layouts.toml", "cannot make layouts.toml"),
    ],
)
def test_a_fault_of_the_user_is_one_message_with_status_2_and_leaves_nothing(
    imginav: Run, layouts: Path, tmp_path: Path, setting: str, message: str
) -> None:
    (tmp_path / "layouts.toml").write_text("")
    done = imginav("run", PHASE, settings=[*SMALL, "data.type=layouts", f"data.manifest={layouts}", setting])
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_the_default_decoder_and_encoder_are_those_of_the_phase() -> None:
    resolved = load(PHASE, installed(), scale="full")
    manifest = resolved.manifest
    model = build_autoencoder(manifest.encoder, manifest.decoder, manifest.data.open().spec, Seeds(0))
    latents = model.encode(torch.zeros(1, 3, 512, 512))
    assert latents.shape == (1, 16, 32, 32)
    assert (manifest.train.epochs, manifest.train.batch_size, manifest.train.seed) == (50, 16, 42)


def test_the_way_from_the_command_line_to_the_loop_and_to_backward_is_short(
    layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stacks: list[list[str]] = []

    def backward(self: Optimization, loss: torch.Tensor) -> None:
        stacks.append([frame.name for frame in traceback.extract_stack(sys._getframe())])
        raise KeyboardInterrupt

    monkeypatch.setattr(Optimization, "backward", backward)
    settings = [*SMALL, "data.type=layouts", f"data.manifest={layouts}"]
    assert cli.main(["run", str(PHASE), *(part for s in settings for part in ("--set", s))]) == 130
    way = stacks[0][stacks[0].index("main") :]
    assert way == [
        "main",
        "run",
        "run_experiment",
        "fit",
        "_train_epoch",
        "train_step",
        "compute",
        "_run_backward",
        "backward",
    ]
    assert "interrupted" in capsys.readouterr().err
