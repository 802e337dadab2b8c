"""The page that a person looks at when a run has ended, and its last lines for a terminal."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import tomlkit
from attrs import field, frozen

from imginav.charts import History, drawings, write_curves
from imginav.embedding import data_uris, evenly
from imginav.evaluation import BEST, INTERPOLATION, LARGEST_ERROR, WORST
from imginav.layers import value_at
from imginav.listing import gigabytes
from imginav.loading import ResolvedManifest
from imginav.outcome import Outcome
from imginav.rundir import PART, RECORD, write_text

PAGE = "report.html"
CURVES = "curves.png"

MOST_SAMPLE_PICTURES = 24
"""In the page, evenly chosen of those in the folder."""

SAMPLE_BYTES, PICTURE_BYTES = 2_600_000, 1_500_000
"""Of the page, that samples, and all other pictures, may take at most; with all else it stays below 5 MB."""

NOT_CHOSEN = ("default", "installed")
"""Origins of values that nobody has written."""

HASHED_BYTES = 1 << 20


@frozen(kw_only=True)
class Figure:
    """One figure over all validation layouts, and over those of each type."""

    name: str
    definition: str
    arrow: str  # whether more or less of it is better; empty where that is not known
    values: list[float | None]


@frozen(kw_only=True)
class File:
    """Something that a run leaves behind."""

    path: str
    size: str
    sha256: str  # empty for what changes after the page is written


@frozen(kw_only=True)
class Pictures:
    """The pictures of a page as addresses within it."""

    samples: list[tuple[str, str]] = field(factory=list)  # what each is called, and its address
    left_out: int = 0  # sample pictures of the folder that the page has no room for
    others: dict[str, str] = field(factory=dict)  # by the name of the file


def summary(outcome: Outcome, folder: Path) -> str:
    """Return the end of a run as lines for a terminal."""
    rows = [*outcome.facts(), ("files", str(folder)), ("look at", str(folder / PAGE))]
    width = max(len(name) for name, _ in rows)
    return "\n".join(["", outcome.title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def write(outcome: Outcome, folder: Path, resolved: ResolvedManifest, history: History = ()) -> None:
    """Write the page into a folder that holds what was measured, and curves.png where there is a history of epochs."""
    if history:
        write_curves(folder / CURVES, history, outcome.weights_epoch)
    files = _files(folder)
    text = page(
        "report.html.j2",
        outcome=outcome,
        folder=folder,
        tiles=_tiles(outcome),
        curves=drawings(history, outcome.weights_epoch) if history else [],
        pictures=_pictures(folder),
        largest_error=LARGEST_ERROR,
        figures=_figures(outcome),
        classes=_classes(outcome),
        chosen=_values(resolved, chosen=True),
        defaults=_values(resolved, chosen=False),
        lineage=[winner.summary for winner in resolved.lineage.values()],
        architecture=architecture(outcome, resolved, files),
        files=files,
    )
    write_text(folder / PAGE, text)


def _tiles(outcome: Outcome) -> list[tuple[str, str, str]]:
    """Return the figures that matter most: what each is, its value, and a line below."""
    metrics, (height, width, channels) = outcome.metrics, outcome.latent
    tiles = []
    if "val_mse" in metrics:
        times = outcome.flat_background_mse / metrics["val_mse"] if metrics["val_mse"] else math.inf
        below = f"{times:.3g} times below a flat background's {outcome.flat_background_mse:.4g}"
        tiles += [
            ("validation MSE", f"{metrics['val_mse']:.5g}", f"in [-1, 1]; {below}"),
            ("PSNR", f"{metrics['val_psnr_db']:.2f} dB", "of the mean MSE"),
        ]
    for name, title in (("val_mean_iou", "mean IoU"), ("val_wall_recall", "wall recall")):
        if name in metrics:
            tiles.append((title, f"{metrics[name]:.3f}", outcome.reconstruction.definitions.get(name, "")))
    ratio = 3 * outcome.downsampling_factor**2 / channels
    numbers = f"{height * width * channels:,} numbers, one for {ratio:.3g} of the image's"
    tiles.append(("latent H×W×C", f"{height}×{width}×{channels}", numbers))
    if outcome.latent_statistics:
        scaling = outcome.latent_statistics.scaling_factor
        tiles.append(("scaling factor", f"{scaling:.5g}", "multiply on encoding, divide before decoding"))
    if latency := outcome.latency:
        below = f"to encode + to decode, one layout, {latency.device}, {latency.precision}"
        tiles.append(("latency", f"{latency.encode_ms:.3g} + {latency.decode_ms:.3g} ms", below))
    weights = outcome.encoder_parameters, outcome.decoder_parameters
    tiles.append(("parameters", f"{sum(weights) / 1e6:.2f} M", f"{weights[0]:,} encoder, {weights[1]:,} decoder"))
    return tiles


def _figures(outcome: Outcome) -> list[Figure]:
    """Return every figure of the validation layouts, of all and of each type."""
    shown = outcome.reconstruction
    names = [*shown.definitions, *(name for name in outcome.metrics if name not in shown.definitions)]
    parts = [outcome.metrics, *shown.by_type.values()]
    return [
        Figure(
            name=name,
            definition=shown.definitions.get(name, ""),
            arrow="↑" if name in shown.more_is_better else "↓" if name in shown.definitions else "",
            values=[part.get(name) for part in parts],
        )
        for name in names
        if name in outcome.metrics
    ]


def _classes(outcome: Outcome) -> dict[str, list[float | None]]:
    """Return the figures of each class, in the order of `reconstruction.by_class`."""
    by_class = outcome.reconstruction.by_class
    names = dict.fromkeys(name for values in by_class.values() for name in values)
    return {name: [values.get(name) for values in by_class.values()] for name in names}


def _pictures(folder: Path) -> Pictures:
    all_samples = sorted((folder / "samples").glob("epoch_*.png"))
    samples = evenly(all_samples, MOST_SAMPLE_PICTURES)
    others = [path for name in (WORST, BEST, INTERPOLATION) if (path := folder / name).is_file()]
    labels = [f"epoch {path.stem.removeprefix('epoch_').lstrip('0') or '0'}" for path in samples]
    shown = data_uris(samples, SAMPLE_BYTES)
    return Pictures(
        samples=list(zip(labels, shown, strict=False)),
        left_out=len(all_samples) - len(shown),
        others=dict(zip((path.name for path in others), data_uris(others, PICTURE_BYTES), strict=False)),
    )


def _values(resolved: ResolvedManifest, *, chosen: bool) -> list[tuple[str, Any, str]]:
    """Return the values that somebody has written, or the others: dotted key, value, origin."""
    return [
        (key, value_at(resolved.tables, key.split(".")), origin)
        for key, origin in resolved.origins.items()
        if (origin not in NOT_CHOSEN) is chosen
    ]


def architecture(outcome: Outcome, resolved: ResolvedManifest, files: Sequence[File]) -> str:
    """Return what Phase 2 needs to know of the autoencoder, as TOML."""
    name = f"{outcome.experiment}_checkpoint_{'best' if outcome.weights_epoch == outcome.best_epoch else 'latest'}.pt"
    checkpoint: dict[str, Any] = {"experiment": outcome.experiment, "weights_epoch": outcome.weights_epoch}
    if known := [file for file in files if file.path == name]:
        checkpoint |= {"checkpoint": name, "checkpoint_sha256": known[0].sha256}
    height, width, channels = outcome.latent
    latent: dict[str, Any] = {
        "height": height,
        "width": width,
        "channels": channels,
        "downsampling_factor": outcome.downsampling_factor,
        "variational": resolved.manifest.encoder.variational,
    }
    if (known_latent := outcome.latent_statistics) is not None and math.isfinite(known_latent.scaling_factor):
        latent |= {"mean": known_latent.mean, "std": known_latent.std, "scaling_factor": known_latent.scaling_factor}
    size = {"encoder": outcome.encoder_parameters, "decoder": outcome.decoder_parameters}
    document = tomlkit.document()
    document.add(tomlkit.comment("Scaled latents: (encoder(image) - mean) * scaling_factor; undo it before decoding."))
    document.add(tomlkit.comment("Images are RGB in [-1, 1]. Without subtracting the mean, scaling alone will do."))
    document["autoencoder"] = {
        **checkpoint,
        "image_size": height * outcome.downsampling_factor,
        "latent": latent,
        "parameters": size,
        "metrics": {name: value for name, value in outcome.metrics.items() if math.isfinite(value)},
        "encoder": resolved.tables["encoder"],
        "decoder": resolved.tables["decoder"],
    }
    return tomlkit.dumps(document)


def _files(folder: Path) -> list[File]:
    """Return what lies in the folder, but for the page itself and what is not whole."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != PART):
        if path == folder / PAGE:
            continue
        try:
            size, digest = path.stat().st_size, "" if path.name == RECORD else _sha256(path)
        except OSError:  # somebody has just taken it away
            continue
        found.append(File(path=str(path.relative_to(folder)), size=gigabytes(size), sha256=digest))
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def page(template: str, **values: Any) -> str:
    """Return a page of HTML that needs no other file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imginav"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = _shown
    environment.filters["bytes"] = gigabytes
    return environment.get_template(template).render(**values)


def _shown(value: float | None) -> str:
    """Return a figure with digits enough to tell two runs apart."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.5g}"
