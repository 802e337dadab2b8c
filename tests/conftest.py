"""What the tests of several packages share."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from imginav import DataSpec
from imginav_datasets.classes import LABELS, PALETTE

# A machine that does other things at the same time is no fault.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

WriteLayouts = Callable[..., Path]


# One thread, here and in the processes that tests start: tensors as small as these lose more than they gain by several,
# and tests run on all cores side by side.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def spec() -> DataSpec:
    """What layouts are made of: the ten classes, room and scene, all targets."""
    return DataSpec(palette=PALETTE, labels=LABELS, targets=("rgb", "segmentation", "label"))


@pytest.fixture
def write_layouts(tmp_path: Path) -> WriteLayouts:
    """Write a list of layouts into a folder and return the path of the CSV file.

    Each row's file is a layout of 32 px with all ten classes, or what `files` has for it: a picture, the bytes of the
    file, or None for a file that is not there.
    """

    def write(
        rows: Sequence[Mapping[str, str]],
        files: Mapping[str, Image.Image | bytes | None] | None = None,
        encoding: str = "utf-8",
    ) -> Path:
        folder = tmp_path / "layouts"
        folder.mkdir(exist_ok=True)
        for row in rows:
            path = folder / row["layout_path"]
            content = (files or {}).get(row["layout_path"], _all_classes())
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content is not None:
                content.save(path, format="PNG")
        with (folder / "layouts.csv").open("w", newline="", encoding=encoding) as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return folder / "layouts.csv"

    return write


def _all_classes() -> Image.Image:
    """Return stripes of the ten classes, background at the bottom."""
    rows = np.minimum(np.arange(32) // 3, len(PALETTE) - 1).astype(np.uint8)
    return Image.fromarray(PALETTE.colour(np.repeat(rows[:, None], 32, axis=1)))
