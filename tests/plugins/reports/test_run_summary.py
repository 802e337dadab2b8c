"""The end of a run on a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import attrs

from imginav_reports.run_summary import facts, summary
from imginav_reports.saved_runs import SavedRun
from imginav_tests import evaluations

EVALUATION = evaluations.evaluation(
    epochs=3,
    stop_reason="early stopping",
    best_epoch=None,
    metrics={"val_mse": 0.01, "val_psnr_db": 26.02},
    notes=("one",),
    latent_statistics=evaluations.latent(),
    latency=evaluations.latency(),
)


def test_it_is_a_title_and_a_line_for_each_fact(tmp_path: Path) -> None:
    lines = summary(EVALUATION, tmp_path).splitlines()
    verdict = [
        "  Validation MSE 0.0100: 10× better than a blank image.",
        "  1 of 2 latent channels is dead.",
    ]
    assert lines[:5] == ["", "Phase 0", *verdict, "  weights of  epoch 2 of 3"]
    assert lines[-2:] == [f"  files       {tmp_path}", f"  look at     {tmp_path / 'report.html'}"]
    assert len(lines) == 2 + len(verdict) + len(facts(EVALUATION)) + 2


def test_the_summary_of_a_run_ends_with_the_command_to_type_next(save_run: Callable[..., SavedRun]) -> None:
    run = save_run("own", metrics=EVALUATION.metrics)
    (run.folder / "own_checkpoint_best.pt").write_bytes(b"weights")
    assert run.evaluation is not None
    last = summary(run.evaluation, run.folder).splitlines()[-1]
    assert last.startswith("  next        imginav ")


def test_the_facts_name_dead_channels_and_what_was_out_of_the_ordinary() -> None:
    shown = facts(EVALUATION)
    assert ("note", "one") in shown
    assert ("ended", "early stopping") in shown
    assert dict(shown)["latent"] == "8×8×2 (H×W×C), scaling factor 0.5, 1 of its channels dead"
    assert dict(shown)["speed"] == "3 ms to encode, 2 ms to decode"
    assert dict(shown)["weights of"] == "epoch 2 of 3"
    assert dict(shown)["val MSE"] == "0.01 in [-1, 1], 10× better than a blank image (0.1)"
    assert dict(facts(attrs.evolve(EVALUATION, best_epoch=1)))["weights of"].endswith("the best by val_loss: 1")
    bare = dict(facts(attrs.evolve(EVALUATION, latent_statistics=None, latency=None)))
    assert bare["latent"] == "8×8×2 (H×W×C)"
    assert "speed" not in bare


def test_many_notes_are_counted_and_not_all_shown() -> None:
    many = attrs.evolve(EVALUATION, notes=tuple(f"layout {number} is missing" for number in range(5000)))
    assert [text for name, text in facts(many) if name == "note"] == [
        *(f"layout {number} is missing" for number in range(20)),
        "and 4980 more, which evaluation.json lists",
    ]
    assert [name for name, _ in facts(attrs.evolve(EVALUATION, notes=()))].count("note") == 0


def test_a_perfect_reconstruction_has_no_finite_psnr_and_is_shown_all_the_same() -> None:
    shown = dict(facts(attrs.evolve(EVALUATION, metrics={"val_mse": 0.0, "val_psnr_db": math.inf})))
    assert shown["PSNR of it"] == "inf dB"
    assert shown["val MSE"] == "0 in [-1, 1], without any error, unlike a blank image (0.1)"
