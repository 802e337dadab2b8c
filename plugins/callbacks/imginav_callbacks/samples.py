"""Pictures of what the autoencoder rebuilds."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from attrs import field, frozen
from torch import Tensor

from imginav import Callback, DataSpec, hookimpl
from imginav.plugin import Pixels, RunFiles, TrainingRun, at_least, from_to, grid, to_bytes, write_png

MOST_PIXELS = 100_000_000
"""Of the layouts in a picture; with what is made of each, it has 0.9 GB while it is drawn."""


@frozen(kw_only=True)
class Samples(Callback):
    """Draw the same validation layouts every few epochs and after the last, input beside reconstruction."""

    observer: ClassVar[bool] = True

    every: int = field(default=5, validator=at_least(1))  # epochs between two pictures
    count: int = field(default=8, validator=from_to(1, 1024))  # layouts in a picture
    columns: int = field(default=2, validator=from_to(1, 64))  # layouts beside each other
    tile: int = field(default=256, validator=from_to(16, 2048))  # side of a layout in the picture, in pixels

    def __attrs_post_init__(self) -> None:
        if self.count * self.tile**2 > MOST_PIXELS:
            raise ValueError(
                f"expected count layouts of tile × tile pixels to have at most {MOST_PIXELS:,} pixels, found "
                f"{self.count} of {self.tile} × {self.tile}"
            )

    def build(self) -> object:
        return SamplePictures(self)

    def disk_bytes(self, weights: int, training: int, epochs: int) -> int:
        # Input, reconstruction and segmentation; reconstructions compress to about a byte a pixel. Two copies of each.
        return 2 * 3 * self.count * self.tile**2 * (epochs // self.every + 1)


class SamplePictures:
    """Draws the pictures of a run."""

    def __init__(self, config: Samples) -> None:
        self._config = config
        self._folder: RunFiles

    @hookimpl
    def run_started(self, folder: RunFiles) -> None:
        self._folder = folder

    @hookimpl
    def epoch_finished(self, trainer: TrainingRun) -> None:
        if trainer.epoch % self._config.every == 0:
            self._draw(trainer)

    @hookimpl(trylast=True)  # the weights that a run leaves may be restored just before
    def training_finished(self, trainer: TrainingRun) -> None:
        if not self._folder.samples(trainer.weights_epoch).exists():
            self._draw(trainer)

    def _draw(self, trainer: TrainingRun) -> None:
        layouts = trainer.data.validation_samples(self._config.count)
        blocks = [tiles(layouts, i, trainer) for i in range(len(layouts["rgb"]))]
        columns = min(self._config.columns, len(blocks))
        rows = [
            [tile for block in blocks[i : i + columns] for tile in block.values()]
            for i in range(0, len(blocks), columns)
        ]
        captions = list(blocks[0]) * columns
        path = self._folder.samples(trainer.weights_epoch)
        write_png(path, grid(rows, captions, self._config.tile))
        self._folder.share(path)


@torch.no_grad()
def tiles(layouts: dict[str, Tensor], index: int, trainer: TrainingRun) -> dict[str, Pixels]:
    """Return the input of one layout and what the model makes of it by caption, each RGB (H, W, 3)."""
    images = trainer.device.batch({"rgb": layouts["rgb"][index : index + 1]})["rgb"]
    trainer.model.eval()
    with trainer.device.autocast():
        outputs = trainer.model(images)
    shown: dict[str, Pixels] = {"input": layouts["rgb"][index].numpy()}
    if "rgb" in outputs:
        shown["reconstruction"] = to_bytes(outputs["rgb"])[0]
    if "segmentation" in outputs:
        shown["segmentation"] = _in_palette(outputs["segmentation"][0], trainer.data.source.spec)
    return shown


def _in_palette(logits: Tensor, spec: DataSpec) -> Pixels:
    """Return the likeliest class of each pixel of logits (K, H, W) in its colour."""
    return spec.palette.colour(logits.argmax(dim=0).cpu().numpy().astype(np.uint8))
