"""Where a reconstruction errs, as a picture."""

from __future__ import annotations

import matplotlib
import numpy as np
from torch import Tensor

from imginav_evaluation.pictures import Pixels

LARGEST_ERROR = 0.5
"""In [-1, 1], of a pixel's mean absolute error, from which on error maps are at their brightest."""


def error_map(rebuilt: Tensor, image: Tensor) -> Pixels:
    """Return the mean absolute error of each pixel of two images (1, 3, H, W) as RGB bytes (H, W, 3), dark for none."""
    share = ((rebuilt - image).abs().mean(dim=1)[0] / LARGEST_ERROR).clamp(0, 1).cpu().numpy()
    colours: Pixels = matplotlib.colormaps["inferno"](share, bytes=True)[..., :3]
    return np.ascontiguousarray(colours)
