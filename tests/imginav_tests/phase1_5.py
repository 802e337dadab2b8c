"""Phase 1.5 of this repository, on a network and layouts that are small enough for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from imginav_datasets.classes import PALETTE

PHASE = Path(__file__).parents[2] / "phases" / "1_5.toml"

SETTINGS = (
    "data.image_size=64",
    "encoder.base_channels=16",
    "encoder.latent_channels=4",
    "encoder.downsampling_steps=2",
    "train.batch_size=4",
    "train.epochs=2",
    "callbacks.samples.tile=64",
)


def write_noise(folder: Path) -> Path:
    """Write twelve layouts of 64 px, each of 8 × 8 random blocks; return the list of them."""
    rng = np.random.default_rng(0)
    lines = ["layout_path,type"]
    for number in range(12):
        tiles = PALETTE.colour(rng.integers(0, len(PALETTE), (8, 8), dtype=np.uint8))
        Image.fromarray(tiles).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'room' if number % 3 else 'scene'}")
    path = folder / "layouts.csv"
    path.write_text("\n".join(lines) + "\n")
    return path
