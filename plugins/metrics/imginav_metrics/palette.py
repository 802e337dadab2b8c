"""What a drawn plan needs: each pixel in the colour of its class, walls and boundaries in their place."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor

from imginav import CannotMeasure, DataSpec, Measurement, Metric
from imginav.plugin import UNMATCHED, Palette, from_to
from imginav_metrics.confusion import (
    accuracy,
    confusion_matrices,
    intersection_over_union,
    mean_of_known,
    named_counts,
    recall,
    share,
)

WALL_TOLERANCE = 1
"""In pixels, how far a wall may be off; walls are 4 to 12 wide."""


@frozen(kw_only=True)
class PaletteClasses(Metric):
    """Classes of the rebuilt pixels by the nearest colour: accuracy, IoU, walls, boundaries of classes."""

    wall: str = "wall"  # the class of thin lines; a palette without it has no figures of walls
    boundary_tolerance: int = field(default=1, validator=from_to(0, 64))  # how far a boundary may be off, in pixels
    colour_tolerance: float = field(
        default=30.0, validator=from_to(0, 442)
    )  # Euclidean distance of RGB levels, 0 to 255 each; a rebuilt colour farther from all classes matches none

    @property
    def definitions(self) -> Mapping[str, str]:
        how = "by the nearest colour, pixels whose truth is no class left out; 0 to 1"
        walls = f"at most {WALL_TOLERANCE} px away, diagonals included, {how}; none without a class {self.wall!r}"
        near = f"at most {self.boundary_tolerance} px away along either axis"
        return {
            "palette_accuracy": f"share of pixels that are rebuilt in their class, {how}",
            "exact_share": f"share of layouts that are rebuilt without a single wrong pixel, {how}",
            "foreground_accuracy": f"share of pixels of all classes but background that are rebuilt in theirs, {how}",
            "mean_iou": "intersection over union of the pixels of a class (Jaccard, 1912), of all layouts together, "
            f"the mean over the classes that occur in truth or reconstruction, {how}",
            "wall_recall": f"share of wall pixels that have a rebuilt wall pixel {walls}",
            "wall_precision": f"share of rebuilt wall pixels that have a true wall pixel {walls}",
            "boundary_f1": f"harmonic mean of the shares of true boundary pixels that have a rebuilt one {near}, and "
            "of rebuilt ones that have a true one; a pixel of another class than its right, lower or lower right "
            f"neighbour is one (Csurka et al., 2013; Perazzi et al., 2016), {how}",
            "rebuilt_unmatched_share": "share of rebuilt pixels whose colour is farther than "
            f"{self.colour_tolerance:g} from that of every class, as the Euclidean distance of RGB levels from 0 to "
            "255; 0 to 1",
        }

    @property
    def more_is_better(self) -> Collection[str]:
        return [figure for figure in self.definitions if figure != "rebuilt_unmatched_share"]

    def build(self, spec: DataSpec, outputs: Collection[str], image_size: int) -> Measurement:
        if "rgb" not in outputs:
            raise CannotMeasure("the autoencoder has no output rgb")
        if "segmentation" not in spec.targets:
            raise CannotMeasure("the data set does not say which class a pixel is of")
        return PaletteRows(self, spec.palette)


class PaletteRows(Measurement):
    """Keeps the confusion matrix of each layout, and counts of pixels of walls, of boundaries, and without a match."""

    def __init__(self, config: PaletteClasses, palette: Palette) -> None:
        self._config = config
        self._palette = palette
        self._background = palette.names.index(palette.background)
        self._wall = palette.names.index(config.wall) if config.wall in palette.names else None

    def rows(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        truth = batch["segmentation"]
        known = truth != UNMATCHED
        rebuilt, distance = nearest_classes(outputs["rgb"], self._palette)
        counts = near_counts(
            "boundary",
            boundary_pixels(truth, known),
            boundary_pixels(rebuilt, torch.ones_like(known)),
            boundary_pixels(rebuilt, known),
            self._config.boundary_tolerance,
        )
        if self._wall is not None:
            walls = rebuilt == self._wall
            counts |= near_counts("wall", truth == self._wall, walls, walls & known, WALL_TOLERANCE)
        return {
            "confusion": confusion_matrices(rebuilt, truth, len(self._palette)),
            "unmatched": (distance > self._config.colour_tolerance).flatten(1).sum(dim=1),
            "pixels": torch.full((len(truth),), truth[0].numel()),
            **counts,
        }

    def figures(self, rows: Mapping[str, Tensor]) -> Mapping[str, float]:
        total = {name: counts.sum(dim=0) for name, counts in rows.items()}
        confusion = total["confusion"]
        foreground = confusion.clone()
        foreground[self._background] = 0
        walls = self._wall is not None
        return {
            "palette_accuracy": accuracy(confusion),
            "exact_share": exact_share(rows["confusion"]),
            "foreground_accuracy": accuracy(foreground),
            "mean_iou": mean_of_known(intersection_over_union(confusion)),
            "wall_recall": share(total["wall_found"], total["wall_true"]) if walls else torch.nan,
            "wall_precision": share(total["wall_right"], total["wall_rebuilt"]) if walls else torch.nan,
            "boundary_f1": f1(
                total["boundary_found"], total["boundary_true"], total["boundary_right"], total["boundary_rebuilt"]
            ),
            "rebuilt_unmatched_share": share(total["unmatched"], total["pixels"]),
        }

    def per_class(self, rows: Mapping[str, Tensor]) -> Mapping[str, Mapping[str, float]]:
        confusion = rows["confusion"].sum(dim=0)
        figures = {"iou": intersection_over_union(confusion), "recall": recall(confusion)}
        return {name: dict(zip(self._palette.names, values.tolist(), strict=True)) for name, values in figures.items()}

    def confusion(self, rows: Mapping[str, Tensor]) -> Mapping[str, Mapping[str, int]]:
        return named_counts(rows["confusion"].sum(dim=0), self._palette.names)


def exact_share(confusions: Tensor) -> float:
    """Return the share of layouts whose confusion matrices (N, K, K) have nothing wrong; NaN where all are empty."""
    pixels = confusions.sum(dim=(1, 2))
    exact = confusions.diagonal(dim1=1, dim2=2).sum(dim=1) == pixels
    return share((exact & (pixels > 0)).sum(), (pixels > 0).sum())


def nearest_classes(images: Tensor, palette: Palette) -> tuple[Tensor, Tensor]:
    """Return the class with the nearest colour of each pixel of images (N, 3, H, W) in [-1, 1], and how far it is.

    Both are (N, H, W): class indices, and Euclidean distances of RGB levels from 0 to 255. The same rule as
    `Palette.nearest`, where the images are; a value that is not finite is infinitely far from every class.
    """
    # Squared distances of whole numbers up to 255 are exact in fp32.
    levels = images.float().contiguous().add(1).mul_(127.5).round_().clamp_(0, 255)
    red, green, blue = levels.unbind(dim=1)
    least = torch.full_like(red, torch.inf)
    classes = torch.zeros_like(least, dtype=torch.long)
    for index, (r, g, b) in enumerate(palette.colours):
        distance = (red - r).square_().add_((green - g).square_()).add_((blue - b).square_())
        classes.masked_fill_(distance < least, index)
        torch.fmin(least, distance, out=least)
    return classes, least.sqrt_()


def boundary_pixels(classes: Tensor, known: Tensor) -> Tensor:
    """Return where the class (N, H, W) differs from that of the right, the lower or the lower right neighbour.

    So a line between two areas is one pixel wide. Where one of both is not known, there is none.
    """
    found = torch.zeros_like(known)
    height, width = known.shape[-2:]
    for down, right in ((0, 1), (1, 0), (1, 1)):
        here = (..., slice(0, height - down), slice(0, width - right))
        there = (..., slice(down, height), slice(right, width))
        found[here] |= (classes[here] != classes[there]) & known[here] & known[there]
    return found


def near_counts(what: str, true: Tensor, rebuilt: Tensor, judged: Tensor, tolerance: int) -> dict[str, Tensor]:
    """Count pixels of two masks (N, H, W), for each layout, and those near a pixel of the other one.

    Near is at most `tolerance` pixels away along either axis. Of the rebuilt pixels, those that are `judged` count.
    """
    # Side by side as channels that lie together in memory, for which pooling is several times faster on a CPU.
    masks = torch.stack([true, rebuilt], dim=1).float().contiguous(memory_format=torch.channels_last)
    near_true, near_rebuilt = F.max_pool2d(masks, 2 * tolerance + 1, stride=1, padding=tolerance).bool().unbind(dim=1)
    counted = {
        "true": true,
        "found": true & near_rebuilt,
        "rebuilt": judged,
        "right": judged & near_true,
    }
    return {f"{what}_{name}": mask.flatten(1).sum(dim=1) for name, mask in counted.items()}


def f1(found: Tensor, true: Tensor, right: Tensor, rebuilt: Tensor) -> float:
    """Return the harmonic mean of found / true and right / rebuilt.

    It is 0 where one of them has nothing and the other has something, and NaN where both have nothing.
    """
    if not true and not rebuilt:
        return torch.nan
    if not found or not right:
        return 0.0
    recalled, precise = share(found, true), share(right, rebuilt)
    return 2 * recalled * precise / (recalled + precise)
