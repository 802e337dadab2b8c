"""Layouts that are drawn, not read: the data of a first run, of trials and of tests."""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from imginav import Dataset, DataSpec, LayoutSource
from imginav.plugin import MOST_LAYOUTS, Sample, at_least, from_to
from imginav_datasets import drawing
from imginav_datasets.classes import LABELS, PALETTE
from imginav_datasets.drawing import draw_held_out_room, draw_held_out_scene, draw_room, draw_scene
from imginav_datasets.layout_store import Stored, as_digests
from imginav_datasets.preparing import Prepared, in_processes, prepare

EDITION = 2
"""Of the drawing: raised when other layouts are drawn from the same seed, so that fingerprints tell them apart."""

STYLES = {"embedded": (draw_room, draw_scene), "held_out": (draw_held_out_room, draw_held_out_scene)}
"""What draws a room and what draws a scene, by the style."""

FEW_PIXELS = 64 * 512**2
"""In layouts that are drawn before processes that help would have begun."""


@frozen(kw_only=True)
class Procedural(Dataset):
    """Layouts of rooms and whole scenes, drawn from a seed; no files are needed."""

    embedded: ClassVar[bool] = True

    count: int = field(default=8000, validator=from_to(2, MOST_LAYOUTS))  # how many layouts there are
    seed: int = field(default=0, validator=at_least(0))  # of the drawing; the split has train.seed
    room_share: float = field(default=0.86, validator=from_to(0, 1))  # of single rooms; the others are scenes
    style: Literal["embedded", "held_out"] = "embedded"  # held_out: to evaluate what was trained on embedded

    def open(self) -> LayoutSource:
        return DrawnLayouts(self)


class DrawnLayouts(LayoutSource):
    """Draws a layout when it is asked for, and keeps it packed: flat colours take about 8 kB a layout.

    What was prepared is not drawn any more, by no process and in no later run.
    """

    spec = DataSpec(palette=PALETTE, labels=LABELS, targets=("rgb", "segmentation", "label"))

    def __init__(self, config: Procedural) -> None:
        self._config = config
        self._packed: dict[int, tuple[int, bytes]] = {}
        self._prepared: Prepared | None = None

    def __len__(self) -> int:
        return self._config.count

    def prepare(self, folder: Path | None, log: Callable[[str], None] = print) -> None:
        if folder is None:
            return
        share = repr(self._config.room_share)  # of which the identity has the first digits
        digests = [hashlib.sha256(f"{self.identity(i)} {share}".encode()).digest() for i in range(len(self))]

        def made(indices: Sequence[int]) -> Iterator[tuple[bytes, Stored]]:
            draw = functools.partial(_drawn, self._config)
            few = len(indices) * self._config.image_size**2 < FEW_PIXELS
            drawn = map(draw, indices) if few else in_processes(draw, indices)
            for index, (label, segmentation) in zip(indices, drawn, strict=True):
                yield digests[index], Stored(segmentation, None, label)

        origin = (PALETTE, Path(__file__), *sorted(Path(drawing.__file__).parent.glob("*.py")))
        self._prepared = prepare(folder, origin, self._config.image_size, as_digests(digests), made, log)

    def read(self, index: int) -> Sample:
        if self._prepared and (stored := self._prepared.read(index)):
            return {**stored.sample, "label": np.array(stored.label, dtype=np.uint8)}
        if index not in self._packed:
            drawn, classes = _drawn(self._config, index)
            self._packed[index] = drawn, zlib.compress(classes.tobytes(), level=1)
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
        drawn = f"drawn layout {index} of edition {EDITION}, seed {self._config.seed}"
        other = "" if self._config.style == "embedded" else f", style {self._config.style}"
        return f"{drawn}, room_share {self._config.room_share:g}{other}"

    def describe(self) -> str:
        style = "" if self._config.style == "embedded" else " in the held-out style"
        size, seed = self._config.image_size, self._config.seed
        return f"{len(self)} embedded layouts of {size} px{style}, drawn from seed {seed}"


def _drawn(config: Procedural, index: int) -> tuple[int, NDArray[np.uint8]]:
    """Return the label and the class indices of a layout."""
    rng = np.random.default_rng((config.seed, index))
    is_scene = rng.random() >= config.room_share
    draw = STYLES[config.style][is_scene]
    segmentation: NDArray[np.uint8] = draw(rng, config.image_size)
    return LABELS.index("scene" if is_scene else "room"), segmentation
