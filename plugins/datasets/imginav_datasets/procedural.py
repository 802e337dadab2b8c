"""Layouts that are drawn, not read: the data of a first run, of trials and of tests."""

from __future__ import annotations

import zlib
from typing import ClassVar

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from imginav import Dataset, DataSpec, LayoutSource
from imginav.checks import at_least, from_to
from imginav.components import MOST_LAYOUTS, Sample
from imginav_datasets.classes import LABELS, PALETTE
from imginav_datasets.drawing import draw_room, draw_scene


@frozen(kw_only=True)
class Procedural(Dataset):
    """Layouts of rooms and whole scenes, drawn from a seed; no files are needed."""

    embedded: ClassVar[bool] = True

    count: int = field(default=8000, validator=from_to(2, MOST_LAYOUTS))  # how many layouts there are
    seed: int = field(default=0, validator=at_least(0))  # of the drawing; the split has train.seed
    room_share: float = field(default=0.86, validator=from_to(0, 1))  # of single rooms; the others are scenes

    def open(self) -> LayoutSource:
        return DrawnLayouts(self)


class DrawnLayouts(LayoutSource):
    """Draws a layout when it is asked for, and keeps it packed: flat colours take about 6 kB a layout."""

    spec = DataSpec(palette=PALETTE, labels=LABELS, targets=("rgb", "segmentation", "label"))

    def __init__(self, config: Procedural) -> None:
        self._config = config
        self._packed: dict[int, tuple[int, bytes]] = {}

    def __len__(self) -> int:
        return self._config.count

    def read(self, index: int) -> Sample:
        if index not in self._packed:
            self._packed[index] = self._draw(index)
        label, packed = self._packed[index]
        size = self._config.image_size
        segmentation = np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(size, size)
        return {
            "rgb": PALETTE.colour(segmentation),
            "segmentation": segmentation,
            "label": np.array(label, dtype=np.uint8),
        }

    def name(self, index: int) -> str:
        return f"drawn layout {index}"

    def identity(self, index: int) -> str:
        return f"drawn layout {index} of seed {self._config.seed}, room_share {self._config.room_share:g}"

    def describe(self) -> str:
        return f"{len(self)} embedded layouts of {self._config.image_size} px, drawn from seed {self._config.seed}"

    def _draw(self, index: int) -> tuple[int, bytes]:
        rng = np.random.default_rng((self._config.seed, index))
        is_scene = rng.random() >= self._config.room_share
        draw = draw_scene if is_scene else draw_room
        segmentation: NDArray[np.uint8] = draw(rng, self._config.image_size)
        return LABELS.index("scene" if is_scene else "room"), zlib.compress(segmentation.tobytes(), level=1)
