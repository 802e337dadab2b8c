"""True layouts, and what samples are worth beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from attrs import evolve, frozen
from numpy.typing import NDArray
from torch import Tensor

from imginav.errors import UserError
from imginav.pixels import to_bytes
from imginav.seeds import Seeds
from imginav_evaluation.pictures import Pixels, grid, write_png
from imginav_probe import plan_statistics
from imginav_probe.distances import Whitening, frechet, precision_recall
from imginav_probe.features import DenoisingAutoencoder, as_images, feature_network, features_of
from imginav_probe.memorisation import TrainingCells, cells_of, memorised_share, shows_something
from imginav_probe.plan_statistics import Statistics, nearest_classes, plan_distances
from imginav_probe.probe import ProbeSubject, Workplace
from imginav_probe.walls import walls_kept
from imginav_probe.windows import Places

REFERENCE = 4
"""True windows that samples are compared with, for each sample."""

SHOWN = 40
"""Samples in the picture, ten in a row."""

NEAREST_SHOWN = 10
"""Samples in the picture of the nearest training windows, the nearest first."""

TILE = 128

SAMPLES, NEAREST, CONTROL = "samples.png", "nearest.png", "control.png"


@frozen(kw_only=True)
class Truth:
    """What samples are compared with: the same windows of true layouts for all autoencoders of a data set."""

    subject: ProbeSubject
    network: DenoisingAutoencoder
    whitening: Whitening  # of feature vectors
    reference: Tensor  # whitened features (M, D) of true windows
    statistics: Statistics | None  # of the same windows; None if the layouts have no classes
    training: TrainingCells
    validation_distances: Tensor  # of validation windows to their nearest training window
    validation_walls: NDArray[np.bool_]  # masks (N, H, W) of validation windows; empty if they are not needed
    floors: Mapping[str, float]  # metrics of true windows that stand in for samples
    reconstructed: Mapping[str, float]  # the same of these windows' reconstructions

    @classmethod
    def of(cls, subject: ProbeSubject, samples: int, workplace: Workplace, *, walls: bool) -> Truth:
        """Look at true layouts; raises UserError where walls are wanted and there is no such class."""
        has_classes = "segmentation" in subject.spec.targets
        if walls and not (has_classes and plan_statistics.WALL in subject.spec.palette.names):
            raise UserError(
                f'condition = "walls": the layouts have no class {plan_statistics.WALL!r}; take condition = "none"'
            )
        network = feature_network(
            subject.training,
            subject.windows,
            subject.data_sha256,
            subject.cache,
            subject.device.autocast,
            subject.device.device,
            workplace.unless_stopped,
        )
        windows, side, seeds = subject.windows, subject.windows.side, Seeds(0)
        order = torch.randperm(len(subject.training.indices), generator=seeds.generator("halves")).tolist()
        half = max(1, len(order) // 2)
        # Two halves of the layouts: the one stands in for samples, and the other one is what these are compared with.
        places = windows.draw(samples, order[:half], seeds.generator("first half"))
        others = windows.draw(REFERENCE * samples, order[half:], seeds.generator("second half"))
        reference = as_images(subject.training.rgb(others, side))
        stand_in = as_images(subject.training.rgb(places, side))
        of_validation = windows.draw(samples, range(len(subject.validation.indices)), seeds.generator("validation"))
        training = TrainingCells(subject.training, windows)
        cells = cells_of(as_images(subject.validation.rgb(of_validation, side)))
        features = features_of(network, reference)
        whitening = Whitening.of(features)
        truth = cls(
            subject=subject,
            network=network,
            whitening=whitening,
            reference=whitening(features),
            statistics=_statistics(to_bytes(reference), subject) if has_classes else None,
            training=training,
            validation_distances=training.nearest(cells[shows_something(cells)]).distances,
            validation_walls=_validation_walls(subject, of_validation, walls=walls),
            floors={},
            reconstructed={},
        )
        floors = truth.metrics(stand_in)
        rebuilt = truth.metrics(subject.decode(subject.latents.of(places, side)))
        for found in (floors, rebuilt):
            del found["memorised"]  # they are training layouts, all of them
        if walls:
            given = truth.validation_walls
            decoded = subject.decode(subject.validation_latents.of(of_validation, side))
            rebuilt |= control_metrics(given, truth.walls_of(decoded))
        return evolve(truth, floors=floors, reconstructed=rebuilt)

    def metrics(self, images: Tensor) -> dict[str, float]:
        """Return what samples (N, 3, H, W) in [-1, 1] are worth, by the names of `FIDELITY` and `PLANS`."""
        features = self.whitening(features_of(self.network, images))
        found = precision_recall(self.reference, features)
        cells = cells_of(images)
        distances = self.training.nearest(cells[shows_something(cells)]).distances
        metrics = {
            "fdd": frechet(self.reference, features),
            "precision": found.precision,
            "recall": found.recall,
            "memorised": memorised_share(distances, self.validation_distances),
        }
        if self.statistics is not None:
            metrics |= plan_distances(self.statistics, _statistics(to_bytes(images), self.subject))
        return metrics

    def is_wall(self, classes: Pixels) -> NDArray[np.bool_]:
        """Return which pixels (N, H, W) of class indices are walls."""
        walls: NDArray[np.bool_] = classes == self.subject.spec.palette.names.index(plan_statistics.WALL)
        return walls

    def walls_of(self, images: Tensor) -> NDArray[np.bool_]:
        """Return which pixels (N, H, W) of images (N, 3, H, W) in [-1, 1] have the colour of walls."""
        return self.is_wall(nearest_classes(to_bytes(images), self.subject.spec.palette))

    def draw(self, images: Tensor, folder: Path) -> None:
        """Draw samples, and those that are nearest to a training window beside it."""
        pixels = to_bytes(images)
        rows = [list(pixels[start : start + 10]) for start in range(0, min(SHOWN, len(pixels)), 10)]
        write_png(folder / SAMPLES, grid(rows, tile=TILE))
        cells = cells_of(images)
        nearest = self.training.nearest(cells)
        order = torch.where(shows_something(cells), nearest.distances, math.inf).argsort()[:NEAREST_SHOWN]
        subject = self.subject
        found = subject.training.rgb(nearest.places.at(order), subject.windows.side)
        rows = [list(pixels[order.numpy()]), list(found)]
        write_png(folder / NEAREST, grid(rows, tile=TILE, titles=["samples", "the nearest training layouts"]))

    def draw_control(self, images: Tensor, folder: Path) -> None:
        """Draw samples below the walls that they were given."""
        given = np.where(self.validation_walls[:NEAREST_SHOWN, :, :, None], np.uint8(0), np.uint8(255))
        rows = [list(np.broadcast_to(given, (*given.shape[:3], 3))), list(to_bytes(images[:NEAREST_SHOWN]))]
        write_png(folder / CONTROL, grid(rows, tile=TILE, titles=["walls that are given", "samples"]))


def control_metrics(given: NDArray[np.bool_], found: NDArray[np.bool_]) -> dict[str, float]:
    """Return how well given walls (N, H, W) came back, by the names of `CONTROL_DEFINITIONS`."""
    kept = walls_kept(given, found)
    return {"control_recall": kept.recall, "control_precision": kept.precision}


def _statistics(pixels: Pixels, subject: ProbeSubject) -> Statistics:
    return plan_statistics.plan_statistics(nearest_classes(pixels, subject.spec.palette), subject.spec.palette)


def _validation_walls(subject: ProbeSubject, places: Places, *, walls: bool) -> NDArray[np.bool_]:
    side = subject.windows.side
    if not walls:
        return np.empty((0, side, side), dtype=bool)
    found: NDArray[np.bool_] = subject.validation.classes(places, side) == subject.spec.palette.names.index(
        plan_statistics.WALL
    )
    return found
