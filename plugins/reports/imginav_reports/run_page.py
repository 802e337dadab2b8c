"""The page that a person looks at when a run has ended, and its last lines for a terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrs import field, frozen

from imginav.files import write_text
from imginav.manifest.config_layers import value_at
from imginav.manifest.resolved import ResolvedManifest
from imginav.runs.evaluation_result import EvaluationResult
from imginav.runs.run_folder import PROBES
from imginav.training.metric_definitions import PROBE, metric_definition
from imginav_evaluation.error_maps import LARGEST_ERROR
from imginav_evaluation.evaluate import BEST, INTERPOLATION, WORST
from imginav_reports.charts import History, drawings, write_curves
from imginav_reports.confusion_tables import confusion_tables
from imginav_reports.deliverables import files_of, phase_2_block, weights_of
from imginav_reports.environment import FILE as ENVIRONMENT
from imginav_reports.environment import load_environment
from imginav_reports.histogram import layout_histogram
from imginav_reports.html import figure, fixed, page, with_spread
from imginav_reports.inline_images import Picture, embedded, evenly
from imginav_reports.interactive_curves import library, plots_of_epochs, plots_of_steps
from imginav_reports.latent_bits import latent_bits
from imginav_reports.metrics_file import read_metrics
from imginav_reports.saved_runs import run_if_any
from imginav_reports.verdict import BLANK, times_better, verdict_on

PAGE = "report.html"
CURVES = "curves.png"

FIGURE = "figure-"
"""Prefix of the ids of the rows in the table of metrics; the name of the metric follows."""

MOST_SAMPLE_PICTURES = 24
"""In the page, evenly chosen of those in the folder."""

SAMPLE_BYTES, PICTURE_BYTES, PROBE_BYTES = 2_200_000, 1_300_000, 600_000
"""Of the page, that samples, the probes' pictures and all others may take at most; it stays below 5 MB."""

LEAST_MILLIONS = 100_000
"""From which on a number is said in millions."""

NOTES_SHOWN, NOTES_LISTED = 3, 20
"""Of the notes: at once, and at a click."""

NOT_CHOSEN = ("default", "installed")
"""Origins of values that nobody has written."""


@frozen
class Tile:
    """One of the figures that matter most."""

    name: str
    value: str
    below: str
    section: str = ""  # id of the element that defines it; empty if the page has none


@frozen(kw_only=True)
class Figure:
    """One figure over all validation layouts, and over those of each type."""

    name: str
    definition: str
    arrow: str  # whether more or less of it is better; empty where that is not known
    values: list[float | None]
    is_loss: bool  # of this manifest; another's may mean another thing


@frozen(kw_only=True)
class Probed:
    """A metric of a probe, as a row of a table."""

    name: str
    arrow: str
    value: str  # mean of the seeds, with what lies between them
    reconstructed: float | None  # the same of reconstructions
    floor: float | None  # the same of true layouts
    definition: str


@frozen(kw_only=True)
class Pictures:
    """The pictures of a page."""

    samples: list[tuple[int, Picture]] = field(factory=list)  # each with its epoch
    first: int = 0  # the place of the one that is shown first: of the weights, if there is one
    left_out: int = 0  # sample pictures of the folder that the page has no room for
    others: dict[str, Picture] = field(factory=dict)  # by the name of the file
    probes: dict[str, Picture] = field(factory=dict)  # by their captions


def write(evaluation: EvaluationResult, folder: Path, resolved: ResolvedManifest, history: History = ()) -> None:
    """Write the page into a folder that holds what was measured, and curves.png where there is a history of epochs."""
    if history:
        write_curves(folder / CURVES, history, evaluation.weights_epoch, evaluation.best_epoch)
    files = files_of(folder, but=folder / PAGE)
    text = page(
        "report.html.j2",
        figure_id=FIGURE,
        evaluation=evaluation,
        folder=folder,
        verdict=verdict_on(evaluation, folder, run_if_any(folder)),
        tiles=_tiles(evaluation),
        probed=probed(evaluation),
        bits=latent_bits(evaluation),
        notes=evaluation.notes[:NOTES_SHOWN],
        more_notes=evaluation.notes[NOTES_SHOWN:NOTES_LISTED],
        notes_left_out=max(0, len(evaluation.notes) - NOTES_LISTED),
        curves=drawings(history, evaluation.weights_epoch, evaluation.best_epoch),
        plots=plots_of_epochs(history, evaluation.weights_epoch, evaluation.best_epoch),
        step_plots=plots_of_steps(read_metrics(folder / f"{evaluation.experiment}_steps.csv")),
        library=library(),
        pictures=_pictures(folder, evaluation.weights_epoch),
        heads=[output for output in resolved.manifest.decoder.output_names if output != "classification"],
        has_classes="val_unmatched_share" in evaluation.metrics,
        largest_error=LARGEST_ERROR,
        figures=_figures(evaluation, resolved),
        classes=_classes(evaluation),
        confusions=confusion_tables(evaluation),
        histogram=layout_histogram(folder),
        from_shared=_from_shared(folder, resolved),
        chosen=_values(resolved, chosen=True),
        defaults=_values(resolved, chosen=False),
        environment=load_environment(folder / ENVIRONMENT),
        lineage=[winner.summary for winner in resolved.lineage.values()],
        phase_2=phase_2_block(evaluation, resolved.tables, weights_of(evaluation, resolved, folder, files)),
        files=files,
    )
    write_text(folder / PAGE, text)


def _from_shared(folder: Path, resolved: ResolvedManifest) -> str:
    """Return the URL of a run's folder as seen from its phase's, where a copy of the page lies."""
    output, phase = resolved.manifest.output, resolved.manifest.phase
    return quote(Path(os.path.relpath(folder.absolute(), (output.shared / phase.group).absolute())).as_posix())


def probed(evaluation: EvaluationResult) -> list[Probed]:
    """Return the metrics of the probes."""
    return [
        Probed(
            name=name.removeprefix(PROBE),
            arrow="↑" if metric.more_is_better else "↓",
            value=with_spread(metric.values),
            reconstructed=metric.reconstructed,
            floor=metric.floor,
            definition=metric.definition,
        )
        for name, metric in evaluation.probes.items()
    ]


def _tiles(evaluation: EvaluationResult) -> list[Tile]:
    """Return the figures that matter most, the best epoch first."""
    height, width, channels = evaluation.latent
    ratio = 3 * evaluation.downsampling_factor**2 / channels
    numbers = f"{height * width * channels:,} numbers, one for {ratio:.3g} of the image's"
    tiles = [
        _tile_of_epoch(evaluation),
        *_tiles_of_quality(evaluation),
        Tile("latent H×W×C", _latent(evaluation), numbers, "latent" if evaluation.latent_statistics else ""),
    ]
    if latent := evaluation.latent_statistics:
        below = f"mean {figure(latent.mean, 3)}, standard deviation {figure(latent.std, 3)}"
        tiles.append(Tile("scaling factor", figure(latent.scaling_factor), below, "latent"))
    if latency := evaluation.latency:
        below = f"to encode + to decode, one layout, {latency.device}, {latency.precision}"
        tiles.append(Tile("latency", f"{latency.encode_ms:.3g} + {latency.decode_ms:.3g} ms", below, "size"))
    weights = evaluation.encoder_parameters, evaluation.decoder_parameters
    below = f"{weights[0]:,} encoder, {weights[1]:,} decoder"
    return [*tiles, Tile("parameters", _millions(sum(weights)), below, "size")]


def _tile_of_epoch(evaluation: EvaluationResult) -> Tile:
    """Return which epoch the weights are of, and whether it is the best."""
    value = f"{evaluation.weights_epoch} of {evaluation.epochs}"
    by = f"by {evaluation.monitor}"
    if evaluation.monitor in evaluation.metrics and evaluation.best_epoch == evaluation.weights_epoch:
        by += f", {figure(evaluation.metrics[evaluation.monitor])}"
    if evaluation.best_epoch == evaluation.weights_epoch:
        return Tile("best epoch", value, by)
    return Tile("epoch", value, f"the best {by} is {evaluation.best_epoch}" if evaluation.best_epoch else "")


def _tiles_of_quality(evaluation: EvaluationResult) -> list[Tile]:
    metrics, tiles = evaluation.metrics, []
    if "val_mse" in metrics:
        flat = evaluation.flat_background_mse
        better = times_better(metrics["val_mse"], flat, BLANK)
        below = f"in [-1, 1]; {better} ({figure(flat, 4)})" if better else "in [-1, 1]"
        tiles.append(Tile("validation MSE", figure(metrics["val_mse"]), below, f"{FIGURE}val_mse"))
    if "val_psnr_db" in metrics:
        value = f"{fixed(metrics['val_psnr_db'], 2)} dB"
        tiles.append(Tile("PSNR", value, _by_type(evaluation, "val_psnr_db"), f"{FIGURE}val_psnr_db"))
    if probe := evaluation.probes.get("probe_fdd"):
        below = f"of the probe's samples; true layouts have {figure(probe.floor or 0.0, 3)}"
        tiles.append(Tile("FDD", with_spread(probe.values), below, "probe"))
    for name, title in (("val_mean_iou", "mean IoU"), ("val_wall_recall", "wall recall")):
        if name in metrics:
            tiles.append(Tile(title, figure(metrics[name], 3), _by_type(evaluation, name), f"{FIGURE}{name}"))
    if "val_exact_share" in metrics:
        value = f"{metrics['val_exact_share']:.1%}"
        tiles.append(
            Tile("rebuilt exactly", value, "of the layouts, without a wrong pixel", f"{FIGURE}val_exact_share")
        )
    return tiles


def _by_type(evaluation: EvaluationResult, name: str) -> str:
    """Return a metric for each type of layout as text; empty if there is only one type."""
    by_type = evaluation.reconstruction.by_type
    values = [f"{kind} {figure(metrics[name], 4)}" for kind, metrics in by_type.items() if name in metrics]
    return ", ".join(values) if len(by_type) > 1 else ""


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= LEAST_MILLIONS else f"{count:,}"


def _latent(evaluation: EvaluationResult) -> str:
    return "×".join(map(str, evaluation.latent))


def _figures(evaluation: EvaluationResult, resolved: ResolvedManifest) -> list[Figure]:
    """Return every figure of the validation layouts, of all and of each type; the losses, which have no types, last."""
    shown = evaluation.reconstruction
    names = [*shown.definitions, *(name for name in evaluation.metrics if name not in shown.definitions)]
    parts = [evaluation.metrics, *shown.by_type.values()]
    return [
        Figure(
            name=name,
            definition=shown.definitions.get(name) or metric_definition(name, resolved.tables["losses"]),
            arrow="↑" if name in shown.more_is_better else "↓" if name in shown.definitions or _is_loss(name) else "",
            values=[part.get(name) for part in parts],
            is_loss=_is_loss(name),
        )
        for name in names
        if name in evaluation.metrics and name not in evaluation.probes  # which have a table of their own
    ]


def _is_loss(name: str) -> bool:
    return name.startswith("val_loss")


def _classes(evaluation: EvaluationResult) -> dict[str, list[float | None]]:
    """Return the figures of each class, in the order of `reconstruction.by_class`."""
    by_class = evaluation.reconstruction.by_class
    names = dict.fromkeys(name for values in by_class.values() for name in values)
    return {name: [values.get(name) for values in by_class.values()] for name in names}


def _pictures(folder: Path, weights_epoch: int) -> Pictures:
    """Return the pictures of a run's folder, as small as the page has room for."""
    numbered = {int(n): p for p in (folder / "samples").glob("epoch_*.png") if (n := p.stem[6:]).isdecimal()}
    epochs = evenly(sorted(numbered), MOST_SAMPLE_PICTURES, with_one=weights_epoch)
    samples = embedded([numbered[epoch] for epoch in epochs], SAMPLE_BYTES)
    others = embedded([folder / name for name in (WORST, BEST, INTERPOLATION)], PICTURE_BYTES)
    probes = embedded(probe_pictures(folder), PROBE_BYTES)
    shown = [(epoch, samples[numbered[epoch]]) for epoch in epochs if numbered[epoch] in samples]
    return Pictures(
        samples=shown,
        first=next((place for place, (epoch, _) in enumerate(shown) if epoch == weights_epoch), len(shown) - 1),
        left_out=len(numbered) - len(shown),
        others={path.name: picture for path, picture in others.items()},
        probes={f"{p.parent.name}: {p.stem.replace('_', ' ')}": picture for p, picture in probes.items()},
    )


def probe_pictures(folder: Path) -> list[Path]:
    """Return the pictures that probes have left in a run's folder, the samples of each probe first."""
    return sorted((folder / PROBES).glob("*/*.png"), key=lambda p: (p.parent.name, p.name != "samples.png", p.name))


def _values(resolved: ResolvedManifest, *, chosen: bool) -> list[tuple[str, Any, str]]:
    """Return the values that somebody has written, or the others: dotted key, value, origin."""
    return [
        (key, value_at(resolved.tables, key.split(".")), origin)
        for key, origin in resolved.origins.items()
        if (origin not in NOT_CHOSEN) is chosen
    ]
