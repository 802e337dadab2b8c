"""What the tests of metrics share: images of given classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from imginav_datasets.classes import PALETTE

Draw = Callable[[Tensor], Tensor]


@pytest.fixture
def draw() -> Draw:
    """Return images (N, 3, H, W) in [-1, 1] of class indices (N, H, W), as a batch holds them."""

    def draw(classes: Tensor) -> Tensor:
        rgb = torch.from_numpy(PALETTE.colour(classes.numpy().astype(np.uint8)))
        return (rgb.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    return draw
