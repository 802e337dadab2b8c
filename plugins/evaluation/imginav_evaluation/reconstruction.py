"""How well validation layouts are rebuilt: what the metrics keep of each, and the figures of all, of types, of one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from imginav.errors import UserError
from imginav.plugin.components import CannotMeasure, Measurement, Metric
from imginav.plugin.data_spec import DataSpec
from imginav.plugin.palette import UNMATCHED
from imginav.runs.evaluation_result import RankedLayout, Reconstruction
from imginav.training.device import Device
from imginav.training.metric_definitions import PART, figure_definitions
from imginav_evaluation.csv_files import write_rows


class Reconstructions:
    """What the metrics keep of each layout, batch by batch."""

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        spec: DataSpec,
        outputs: Collection[str],
        image_size: int,
        device: Device,
    ) -> None:
        """Set the metrics up; raises UserError where two measure the same, or one is told what cannot be."""
        self.definitions = figure_definitions(metrics)
        self.not_measured: dict[str, str] = {}
        self._metrics = metrics
        self._spec = spec
        self._background = torch.tensor(spec.palette.background_colour, device=device.device).view(1, 3, 1, 1)
        self._measurements: dict[str, Measurement] = {}
        self._rows: dict[str, dict[str, list[Tensor]]] = {}  # by metric and name, one tensor for each batch
        self._own: dict[str, list[Tensor]] = {"mse": [], "flat": [], "label": []}
        self._joined: dict[str, dict[str, Tensor]] | None = None  # the rows of all batches, once they are asked for
        for name, metric in metrics.items():
            try:
                measurement = metric.build(spec, outputs, image_size)
            except CannotMeasure as reason:
                self.not_measured[name] = str(reason)
                continue
            except UserError as error:
                raise UserError(f"evaluation.metrics.{name}: {error}") from error
            if isinstance(measurement, nn.Module):
                device.place(measurement)
            self._measurements[name] = measurement
            self._rows[name] = {}

    @torch.no_grad()
    def see(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Take in a batch and what the autoencoder made of it."""
        self._joined = None
        for name, measurement in self._measurements.items():
            for key, rows in measurement.rows(outputs, batch).items():
                self._rows[name].setdefault(key, []).append(rows.detach().cpu())
        images = batch["rgb"]
        nothing = torch.full((len(images),), torch.nan)
        unknown = torch.full((len(images),), UNMATCHED)
        self._own["mse"].append(_mse_of_each(outputs["rgb"], images) if "rgb" in outputs else nothing)
        self._own["flat"].append(_mse_of_each(self._background / 127.5 - 1, images))
        self._own["label"].append(batch["label"].cpu() if "label" in batch else unknown)

    @property
    def mse(self) -> Tensor:
        """The mean squared error of each layout (N,); NaN without an output rgb."""
        return torch.cat(self._own["mse"])

    @property
    def flat_background_mse(self) -> float:
        """The MSE of reconstructions that show nothing but background: what any autoencoder must beat."""
        return float(torch.cat(self._own["flat"]).mean())

    @property
    def types(self) -> list[str]:
        """The type of each layout; empty where it is not known."""
        names = self._spec.labels
        return [names[label] if label < len(names) else "" for label in torch.cat(self._own["label"]).tolist()]

    def figures(self, places: Sequence[int] | None = None) -> dict[str, float]:
        """Return the figures of all layouts, or of those at some places in the order in which they were seen."""
        return {
            f"{PART}{figure}": float(value)
            for name, rows in self._taken(places)
            for figure, value in self._measurements[name].figures(rows).items()
        }

    def summary(self, names: Sequence[str], extremes: int) -> Reconstruction:
        """Return everything beside the figures of all layouts; `names` are the layouts', as they were seen."""
        types, mse = self.types, self.mse
        there = {kind: [i for i, own in enumerate(types) if own == kind] for kind in self._spec.labels}
        order = [i for i in torch.argsort(mse, descending=True, stable=True).tolist() if torch.isfinite(mse[i])]
        ranked = [RankedLayout(name=names[i], type=types[i], mse=float(mse[i])) for i in order]
        known = {figure for metric in self._metrics.values() for figure in metric.more_is_better}
        return Reconstruction(
            layouts={kind: len(places) for kind, places in there.items() if places},
            by_type={kind: self.figures(places) for kind, places in there.items() if places},
            by_class={
                f"{PART}{figure}": dict(values)
                for name, rows in self._taken(None)
                for figure, values in self._measurements[name].per_class(rows).items()
            },
            confusion={
                name: {true: dict(taken) for true, taken in counted.items()}
                for name, rows in self._taken(None)
                if (counted := self._measurements[name].confusion(rows))
            },
            worst=tuple(ranked[:extremes]),
            best=tuple(ranked[::-1][:extremes]),
            definitions=self.definitions,
            more_is_better=tuple(f"{PART}{figure}" for figure in sorted(known)),
            not_measured=self.not_measured,
        )

    def write_csv(self, path: Path, names: Sequence[str]) -> None:
        """Write a row for each layout with its own figures, for people's own tools."""
        own = [self.figures([place]) for place in range(len(names))]
        rows = zip(names, self.types, own, strict=True)
        write_rows(
            path, ({"layout": name, "type": kind, **figures} for name, kind, figures in rows), ("layout", "type")
        )

    def _taken(self, places: Sequence[int] | None) -> Iterator[tuple[str, dict[str, Tensor]]]:
        if self._joined is None:
            self._joined = {
                name: {key: torch.cat(parts) for key, parts in kept.items()} for name, kept in self._rows.items()
            }
        for name, rows in self._joined.items():
            yield name, rows if places is None else {key: part[list(places)] for key, part in rows.items()}


def _mse_of_each(outputs: Tensor, images: Tensor) -> Tensor:
    return (outputs - images).square().flatten(1).mean(dim=1, dtype=torch.float64).cpu()
