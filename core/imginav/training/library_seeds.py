"""The generators that all code of a process shares, for plugins that draw from them.

The core draws from none of them. They are put at the start of a sequence of their own before each step, so that a run
that goes on draws what an unbroken one would have drawn.
"""

from __future__ import annotations

import random

import numpy as np
import torch

from imginav.seeds import Seeds


def start(seeds: Seeds, *purpose: str | int) -> None:
    """Put torch's, numpy's and Python's own generators at the start of the sequence for a purpose."""
    seed = seeds.derive("layers", *purpose)
    torch.manual_seed(seed)  # of all devices
    np.random.seed(seed % 2**32)  # noqa: NPY002  # what a plugin may draw from, not what the core does
    random.seed(seed)
