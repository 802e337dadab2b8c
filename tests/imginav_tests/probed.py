"""An autoencoder as probes look at it, whose latents are plain enough to know what they are worth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from imginav.manifest.tables import Machine
from imginav.pixels import to_floats
from imginav.training.device import open_device
from imginav_probe.probe import ProbeSubject
from imginav_probe.windows import LatentWindows, Places, TrueLayouts, Windows
from imginav_tests.tiny import Blocks

CELL = 4
"""Pixels along each side of a cell of the made-up latents."""

Code = Callable[[Tensor], Tensor]


def images_of(layouts: TrueLayouts, side: int) -> Tensor:
    count = len(layouts.indices)
    whole = Places(torch.arange(count), torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.long))
    return to_floats(torch.from_numpy(layouts.rgb(whole, side))).permute(0, 3, 1, 2)


def subject(
    encode: Code = lambda latents: latents, decode: Code = lambda latents: latents, cache: Path | None = None
) -> ProbeSubject:
    """Return an autoencoder whose latents are the mean colours of cells, spoilt by `encode` and `decode`."""
    source = Blocks(image_size=32, count=64).open()
    training, validation = TrueLayouts(source, range(48)), TrueLayouts(source, range(48, 64))

    def windows(layouts: TrueLayouts, like: LatentWindows | None = None) -> LatentWindows:
        latents = encode(F.avg_pool2d(images_of(layouts, 32), CELL))
        return LatentWindows(latents, None, CELL, like=like)

    latents = windows(training)

    def decoder(standardised: Tensor) -> Tensor:
        cells = decode(latents.restored(standardised))
        return F.interpolate(cells[:, :3], scale_factor=CELL, mode="nearest").clamp(-1, 1)

    return ProbeSubject(
        latents=latents,
        validation_latents=windows(validation, latents),
        decoder=decoder,
        training=training,
        validation=validation,
        windows=Windows(image_size=32, side=32, step=32),
        spec=source.spec,
        data_sha256="blocks",
        device=open_device(Machine(device="cpu", precision="fp32")),
        cache=cache,
    )
