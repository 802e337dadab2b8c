"""The summary of a finished run for the terminal."""

from __future__ import annotations

from pathlib import Path

from imginav.runs.evaluation_result import EvaluationResult
from imginav.runs.run_folder import REPORT
from imginav_reports.html import with_spread
from imginav_reports.latent_bits import latent_bits
from imginav_reports.saved_runs import run_if_any
from imginav_reports.verdict import BLANK, times_better, verdict_on

NOTES_SHOWN = 20
"""Upper bound on the notes that are printed; a data set may have thousands of unreadable layouts."""


def summary(evaluation: EvaluationResult, folder: Path) -> str:
    """Return the title, the verdict, the most important values, the files and the next command as lines of text."""
    verdict = verdict_on(evaluation, folder, run_if_any(folder))
    rows = [
        *facts(evaluation),
        ("files", str(folder)),
        ("look at", str(folder / REPORT)),
        *(("next", f"{step.command}  ({step.purpose})") for step in verdict.next_steps[:1]),
    ]
    width = max(len(name) for name, _ in rows)
    lines = (f"  {name:<{width}}  {value}" for name, value in rows)
    return "\n".join(["", evaluation.title, *(f"  {text}" for text in verdict.sentences), *lines])


def facts(evaluation: EvaluationResult) -> list[tuple[str, str]]:
    """Return the most important values as pairs of a name and a text."""
    height, width, channels = evaluation.latent
    best = f"; the best by {evaluation.monitor}: {evaluation.best_epoch}" if evaluation.best_epoch else ""
    facts = [("weights of", f"epoch {evaluation.weights_epoch} of {evaluation.epochs}{best}")]
    if evaluation.stop_reason:
        facts.append(("ended", evaluation.stop_reason))
    facts += [*_quality(evaluation), ("latent", f"{height}×{width}×{channels} (H×W×C){_scaling(evaluation)}")]
    if bits := latent_bits(evaluation):
        facts.append(("bits", bits.line))
    encoder, decoder = evaluation.encoder_parameters, evaluation.decoder_parameters
    facts.append(("parameters", f"{encoder:,} in the encoder, {decoder:,} in the decoder"))
    if latency := evaluation.latency:
        facts.append(("speed", f"{latency.encode_ms:.3g} ms to encode, {latency.decode_ms:.3g} ms to decode"))
    train, validation = evaluation.train_layouts, evaluation.validation_layouts
    layouts = f"{train:,} train, {validation:,} validate, split by {evaluation.split_by}"
    if not evaluation.split_by:
        layouts = f"all {validation:,} of {evaluation.data}"
    more = len(evaluation.notes) - NOTES_SHOWN
    return [
        *facts,
        ("layouts", layouts),
        *(("note", note) for note in evaluation.notes[:NOTES_SHOWN]),
        *([("note", f"and {more} more, which evaluation.json lists")] if more > 0 else []),
    ]


def _quality(evaluation: EvaluationResult) -> list[tuple[str, str]]:
    facts = []
    if "val_mse" in evaluation.metrics:
        mse = evaluation.metrics["val_mse"]
        flat = evaluation.flat_background_mse
        beside = f", {better} ({flat:.4g})" if (better := times_better(mse, flat, BLANK)) else ""
        facts += [
            ("val MSE", f"{mse:.5g} in [-1, 1]{beside}"),
            ("PSNR of it", f"{evaluation.metrics['val_psnr_db']:.2f} dB"),
        ]
    if probe := evaluation.probes.get("probe_fdd"):
        floor = f"; true layouts have {probe.floor:.3g}" if probe.floor is not None else ""
        facts.append(("probe FDD", f"{with_spread(probe.values)}{floor}"))
    if share := evaluation.metrics.get("val_unmatched_share"):
        facts.append(("unmatched", f"{share:.3%} of validation pixels have the colour of no class"))
    return facts


def _scaling(evaluation: EvaluationResult) -> str:
    if evaluation.latent_statistics is None:
        return ""
    dead = evaluation.latent_statistics.dead_channels
    return f", scaling factor {evaluation.latent_statistics.scaling_factor:.5g}" + (
        f", {len(dead)} of its channels dead" if dead else ""
    )
