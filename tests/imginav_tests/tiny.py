"""A data set and a phase that are as small as can be."""

from __future__ import annotations

import numpy as np
import tomli
import tomlkit
from attrs import frozen

from imginav import Dataset, DataSpec, LayoutSource
from imginav.manifest.config_layers import ConfigLayer, merge
from imginav.plugin import Palette, Sample

PALETTE = Palette(names=("red", "white"), colours=((228, 26, 28), (240, 240, 240)), background="white")

BASE = """
[data]
type = "blocks"
image_size = 32

[encoder]
type = "conv"
latent_channels = 2
base_channels = 16
downsampling_steps = 2

[decoder]
type = "conv"
heads.rgb = { type = "rgb" }
heads.segmentation = { type = "segmentation" }

[losses]
mse = {}
segmentation = { type = "cross_entropy", output = "segmentation", target = "segmentation", weight = 0.1 }

[train]
epochs = 2
batch_size = 4
split = 0.75
optimizer = { type = "adamw", learning_rate = 1e-3 }
"""
"""The tiny phase without its `[phase]` table, as phases extend it."""

PHASE = f"""
[phase]
id = "0"
experiment = "tiny"
group = "tinies"
{BASE}"""


def changed(manifest: str, changes: str) -> str:
    """Return a manifest with other values and further tables; both texts are TOML."""
    tables, _ = merge([ConfigLayer("", tomli.loads(text)) for text in (manifest, changes)])
    return tomlkit.dumps(tables)


@frozen(kw_only=True)
class Blocks(Dataset):
    """Red blocks on white, drawn from their number; two of them make a scene."""

    count: int = 16  # type: ignore[assignment]

    def open(self) -> LayoutSource:
        return BlockLayouts(self)


class BlockLayouts(LayoutSource):
    spec = DataSpec(palette=PALETTE, labels=("room", "scene"), targets=("rgb", "segmentation", "label"))

    def __init__(self, config: Blocks) -> None:
        self._config = config

    def __len__(self) -> int:
        return self._config.count

    def read(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        size = self._config.image_size
        segmentation = np.ones((size, size), dtype=np.uint8)
        top, left = rng.integers(0, size // 2, 2)
        segmentation[top : top + size // 2, left : left + size // 2] = 0
        return {
            "rgb": PALETTE.colour(segmentation),
            "segmentation": segmentation,
            "label": np.array(index % 2, np.uint8),
        }

    def name(self, index: int) -> str:
        return f"block {index}"

    def scene(self, index: int) -> str | None:
        return f"scene {index // 2}"
