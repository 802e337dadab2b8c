"""The generators that all code of a process shares, for plugins that draw from them.

The core draws from none of them; a run that goes on has to find them where it left them.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from imginav.seeds import Seeds


def start(origin: Seeds | dict[str, Any], device: torch.device) -> None:
    """Put torch's, numpy's and Python's own generators where a state was taken, or at the start of a run's seeds."""
    if isinstance(origin, Seeds):
        seed = origin.derive("layers")
        torch.manual_seed(seed)  # of all devices
        np.random.seed(seed % 2**32)  # noqa: NPY002  # what a plugin may draw from, not what the core does
        random.seed(seed)
        return
    torch.set_rng_state(origin["torch"])
    if device.type == "cuda" and origin["cuda"] is not None:
        torch.cuda.set_rng_state(origin["cuda"], device)
    name, keys, *rest = origin["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002  # as above
    version, numbers, gauss = origin["python"]
    random.setstate((version, tuple(numbers), gauss))


def state(device: torch.device) -> dict[str, Any]:
    """Return where the generators are, as tensors and plain values."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  # as above
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
        "python": random.getstate(),
    }
