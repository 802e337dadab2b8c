"""What a person looks at when a run has ended: summary, curves, interpolation, one page."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import jinja2
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imginav import pictures
from imginav.device import to_bytes
from imginav.errors import UserError
from imginav.evaluation import interpolate
from imginav.loading import ResolvedManifest
from imginav.rundir import RunFolder, write_text
from imginav.trainer import Trainer

INTERPOLATION_PAIRS = 3
INTERPOLATION_STEPS = 8

NOTES_SHOWN = 20
"""Of what was out of the ordinary; half of a set may be missing."""


@attrs.frozen(kw_only=True)
class Outcome:
    """The result of a run."""

    title: str
    experiment: str
    weights_epoch: int  # the epoch whose weights the run leaves, and of which the metrics are
    epochs: int  # that were trained
    stop_reason: str
    best_epoch: int | None  # by `monitor`; none where no epoch had a finite value
    monitor: str
    metrics: dict[str, float]  # of the whole validation split, measured anew after training
    flat_background_mse: float  # of reconstructions that show nothing but background
    latent: tuple[int, int, int]  # height, width, channels
    encoder_parameters: int
    decoder_parameters: int
    latency_ms: float | None  # to encode and decode one layout, where it was trained; none: others trained beside it
    train_layouts: int
    validation_layouts: int
    split_by: str
    trial: bool
    notes: tuple[str, ...] = ()  # what was out of the ordinary: values that were changed on the way, what was left out

    def facts(self) -> list[tuple[str, str]]:
        """Return what matters most as pairs of a name and a value."""
        height, width, channels = self.latent
        more = len(self.notes) - NOTES_SHOWN
        facts = [
            (
                "weights of",
                f"epoch {self.weights_epoch} of {self.epochs}; the best by {self.monitor}: {self.best_epoch}",
            ),
            ("ended", self.stop_reason),
        ]
        if "val_mse" in self.metrics:
            mse = self.metrics["val_mse"]
            times = self.flat_background_mse / mse if mse else math.inf
            facts += [
                (
                    "val MSE",
                    f"{mse:.5g} in [-1, 1], {times:.3g} times below a flat background's {self.flat_background_mse:.4g}",
                ),
                ("PSNR of it", f"{self.metrics['val_psnr_db']:.2f} dB"),
            ]
        if share := self.metrics.get("val_unmatched_share"):
            facts.append(("unmatched", f"{share:.3%} of validation pixels have the colour of no class"))
        return [
            *facts,
            ("latent", f"{height}×{width}×{channels} (H×W×C)"),
            ("parameters", f"{self.encoder_parameters:,} in the encoder, {self.decoder_parameters:,} in the decoder"),
            *([("speed", f"{self.latency_ms:.3g} ms to encode and decode one layout")] if self.latency_ms else []),
            (
                "layouts",
                f"{self.train_layouts:,} train, {self.validation_layouts:,} validate, split by {self.split_by}",
            ),
            *(("note", note) for note in self.notes[:NOTES_SHOWN]),
            *([("note", f"and {more} more, which evaluation.json lists")] if more > 0 else []),
        ]


def summary(outcome: Outcome, folder: Path) -> str:
    """Return the end of a run as lines for a terminal."""
    rows = [*outcome.facts(), ("files", str(folder)), ("look at", str(folder / "report.html"))]
    width = max(len(name) for name, _ in rows)
    return "\n".join(["", outcome.title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def load_outcome(path: Path) -> Outcome:
    """Read the evaluation.json of a finished run; raises UserError where there is none that fits."""
    try:
        table = json.loads(path.read_text())
        metrics = {name: math.nan if value is None else float(value) for name, value in table["metrics"].items()}
        return Outcome(
            **{**table, "metrics": metrics, "latent": tuple(table["latent"]), "notes": tuple(table.get("notes", ()))}
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: is no evaluation of this version of imginav ({type(error).__name__}: {error}); "
            "train the run anew with --resume never"
        ) from None


def write(outcome: Outcome, trainer: Trainer, folder: RunFolder, resolved: ResolvedManifest) -> None:
    """Write evaluation.json, curves.png, interpolation.png and report.html, and a copy of it for the phase."""
    write_text(folder.evaluation, json.dumps(_finite(attrs.asdict(outcome)), indent=2) + "\n")
    images = [folder.root / "curves.png"]
    _write_curves(images[0], trainer)
    if "rgb" in trainer.model.output_names:
        images.append(folder.root / "interpolation.png")
        _write_interpolation(images[1], trainer)
    images += sorted((folder.root / "samples").glob("epoch_*.png"))[-1:]
    path = folder.root / "report.html"
    write_text(path, _report_page(outcome, folder, resolved, images))
    folder.share(path)


def _write_curves(path: Path, trainer: Trainer) -> None:
    history = trainer.history
    epochs = [row["epoch"] for row in history]
    names = ["loss", *(f"loss_{name}" for name in trainer.objective.weights)]
    panels: list[tuple[str, dict[str, str]]] = [
        (name.replace("loss_", "loss term: "), {"train": f"train_{name}", "validation": f"val_{name}"})
        for name in names
    ]
    if "val_psnr_db" in history[0]:
        panels.append(("PSNR of the mean MSE (dB)", {"validation": "val_psnr_db"}))
    panels.append(("learning rate", {"training": "learning_rate"}))
    columns = 2
    figure = Figure(figsize=(11, 3.1 * math.ceil(len(panels) / columns)), layout="constrained")
    grid = figure.subplots(math.ceil(len(panels) / columns), columns, squeeze=False).flatten()
    for axes, (title, lines) in zip(grid, panels, strict=False):
        for label, column in lines.items():
            axes.plot(epochs, [row.get(column, math.nan) for row in history], marker="o", markersize=3, label=label)
        if title.startswith("loss") and all(row.get(c, 1) > 0 for row in history for c in lines.values()):
            axes.set_yscale("log")
        axes.axvline(trainer.weights_epoch, color="0.6", linestyle=":", label=f"epoch {trainer.weights_epoch}")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize="small")
        axes.grid(alpha=0.25)
    for axes in grid[len(panels) :]:
        axes.remove()
    pictures.write_figure(path, figure)


def _write_interpolation(path: Path, trainer: Trainer) -> None:
    samples = trainer.data.validation_samples(2 * INTERPOLATION_PAIRS)["rgb"]
    if len(samples) == 1:  # the strip runs from it to itself
        samples = samples.repeat(2, 1, 1, 1)
    pairs = samples[: len(samples) // 2 * 2].view(-1, 2, *samples.shape[1:])
    rows = []
    for pair in pairs:
        images = trainer.device.batch({"rgb": pair})["rgb"]
        strip = to_bytes(interpolate(trainer.model, images, INTERPOLATION_STEPS, trainer.device))
        rows.append([pair[0].numpy(), *strip, pair[1].numpy()])
    shares = [f"{step / (INTERPOLATION_STEPS - 1):.2f}" for step in range(INTERPOLATION_STEPS)]
    pictures.write_png(path, pictures.grid(rows, ["first layout", *shares, "second layout"], tile=160))


def _report_page(outcome: Outcome, folder: RunFolder, resolved: ResolvedManifest, images: Sequence[Path]) -> str:
    values = [(key, _value_at(resolved.tables, key), origin) for key, origin in resolved.origins.items()]
    deliverables = sorted(path.relative_to(folder.root) for path in folder.root.rglob("*") if path.is_file())
    return page(
        "report.html.j2",
        outcome=outcome,
        folder=folder,
        values=values,
        deliverables=[*deliverables, "report.html"],
        pictures=[(path.relative_to(folder.root), data_uri(path)) for path in images],
    )


def _value_at(tables: Mapping[str, Any], key: str) -> Any:
    value: Any = tables
    for part in key.split("."):
        value = value[part]
    return value


def page(template: str, **values: Any) -> str:
    """Return a page of HTML that needs no other file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imginav"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(**values)


def data_uri(path: Path) -> str:
    """Return a PNG file as the address of a picture within a page."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN; what is not finite becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
