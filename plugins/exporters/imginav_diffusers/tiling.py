"""A network on large images, one tile at a time: the same result in less memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

MOST_REACH = 16
"""Cells that a network may look around a cell of the latent; one that looks further is not computed in tiles."""


def in_tiles(network: Callable[[Tensor], Tensor], given: Tensor, *, tile: int, margin: int, factor: float) -> Tensor:
    """Return what `network` computes of `given` (N, C, h, w), from tiles whose sides are `tile` and from what is
    around them.

    The network multiplies sides by `factor`, such as 16 for a decoder and 1 / 16 for an encoder. Each tile is computed
    with `margin` more on all sides, as far as there is, and the margin's results are dropped: where the network looks
    no further than that, the result is that of the whole, but for rounding.
    """
    height, width = given.shape[2:]
    rows = []
    for top in range(0, height, tile):
        row = []
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            above, before = max(0, top - margin), max(0, left - margin)
            part = network(given[:, :, above : bottom + margin, before : right + margin])
            own = [round(side * factor) for side in (top - above, bottom - above, left - before, right - before)]
            row.append(part[:, :, own[0] : own[1], own[2] : own[3]])
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)


@torch.no_grad()
def reach_of(network: Callable[[Tensor], Tensor], channels: int, factor: float, like: Tensor) -> int | None:
    """Return how many cells of the latent a network looks around a cell; None: further than `MOST_REACH`.

    `factor` is as for `in_tiles`; `like` says dtype and device. What depends on one cell shows where that cell is not
    a number: it spreads to all that is computed from it, through any weights.
    """
    cell = max(1, round(1 / factor))  # of what is given
    found = max(1, round(factor))  # of what is computed
    side = 2 * MOST_REACH + 1
    given = torch.linspace(-1, 1, channels * (side * cell) ** 2, dtype=like.dtype, device=like.device)
    given = given.view(1, channels, side * cell, side * cell).clone()
    before = network(given)
    centre = slice(MOST_REACH * cell, (MOST_REACH + 1) * cell)
    given[:, :, centre, centre] = math.nan
    after = network(given)
    changed = ((after != before) | after.isnan()).any(dim=1)[0].nonzero() // found
    reach = int((changed - MOST_REACH).abs().max()) if len(changed) else 0
    return reach if reach < MOST_REACH else None
