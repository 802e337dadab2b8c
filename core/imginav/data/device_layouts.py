"""The layouts of a training as bytes on its device, so that no batch waits for a disk, a process or a bus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from imginav.data.batches import Draw, Loaded, Place, Unreadable, corner
from imginav.plugin.palette import Palette


class DeviceLayouts:
    """Whole square layouts on a device, of which it makes batches, bit for bit those that `LayoutReader` makes."""

    def __init__(self, loaded: Iterable[Loaded], count: int, palette: Palette, device: torch.device) -> None:
        """Take over `count` layouts, each loaded as a batch of its own; raises torch's OutOfMemoryError."""
        self._device = device
        self._colours = torch.from_numpy(palette.table.copy()).to(device)
        self._rows: dict[str, _Rows] = {}  # by name; those of `rgb` are of the layouts alone that have it
        self._row: dict[str, dict[int, int]] = {}  # by name and by index of the layout
        self._unreadable: dict[int, Unreadable] = {}
        for batch in loaded:
            self._unreadable |= {layout.index: layout for layout in batch.unreadable}
            for name in batch.layouts.keys() - {"colours"}:
                rare = name == "rgb" and "segmentation" in batch.layouts
                rows = self._rows.setdefault(name, _Rows(1 if rare else count, device))
                self._row.setdefault(name, {})[batch.indices[0]] = rows.add(batch.layouts[name])

    def batch(self, draws: Sequence[Draw]) -> Loaded:
        """Return a batch as it was drawn; what could not be read is named each time that it is drawn."""
        read = [draw for draw in draws if draw.layout not in self._unreadable]
        unreadable = [self._unreadable[draw.layout] for draw in draws if draw.layout in self._unreadable]
        return Loaded([draw.layout for draw in read], self._arrays(read) if read else {}, unreadable)

    def _arrays(self, draws: Sequence[Draw]) -> dict[str, Tensor]:
        """Return what `stack` makes of these samples: of `rgb` and `colours` the one that it has."""
        chosen = self._chosen(draws)
        batch = {name: self._take(name, draws, chosen) for name in self._rows if name != "rgb"}
        coloured = [place for place, draw in enumerate(draws) if draw.layout in self._row.get("rgb", {})]
        if not coloured:
            return {**batch, "colours": self._colours}
        where = self._to_device(coloured)
        rgb = self._take("rgb", [draws[place] for place in coloured], chosen[where])
        if len(coloured) < len(draws):
            images = self._colours[batch["segmentation"].int()]
            images[where] = rgb
            rgb = images
        return {"rgb": rgb, **batch}

    def _chosen(self, draws: Sequence[Draw]) -> Tensor:
        """Return which of its places each draw cuts, as `fullest` chooses."""
        candidates = len(draws[0].places) if draws[0].crop else 1
        if candidates == 1:
            return torch.zeros(len(draws), dtype=torch.int64, device=self._device)
        name = "segmentation" if "segmentation" in self._rows else "rgb"
        unturned = [draw._replace(symmetry=0) for draw in draws]
        counts = []
        for candidate in range(candidates):
            pixels = self._take(name, unturned, torch.full((len(draws),), candidate, device=self._device))
            differ = pixels[:, 1:, 1:] != pixels[:, :-1, :-1]
            counts.append((differ.any(dim=3) if differ.dim() == 4 else differ).sum(dim=(1, 2)))
        return torch.stack(counts, dim=1).argmax(dim=1)

    def _take(self, name: str, draws: Sequence[Draw], chosen: Tensor) -> Tensor:
        """Return what all draws cut out of one kind of arrays (N, side, side, …), or (N,) where it has no pixels."""
        rows = self._rows[name].tensor
        numbers = [self._row[name][draw.layout] for draw in draws]
        if rows.dim() < 3:
            return rows[self._to_device(numbers)]
        # One affine map for each place, from its pixels to those of all layouts in a row: a start, and a step each way.
        maps = [
            [_affine(draw, place, number, rows.shape[1]) for place in draw.places]
            for draw, number in zip(draws, numbers, strict=True)
        ]
        of_chosen = self._to_device(maps)[torch.arange(len(draws), device=self._device), chosen]
        start, down, right = of_chosen.view(-1, 3, 1, 1).unbind(1)
        steps = torch.arange(draws[0].crop or rows.shape[1], device=self._device)
        return rows.flatten(0, 2)[start + down * steps[:, None] + right * steps]

    def _to_device(self, numbers: Sequence[object]) -> Tensor:
        tensor = torch.tensor(numbers)
        return (tensor.pin_memory() if self._device.type == "cuda" else tensor).to(self._device, non_blocking=True)


class _Rows:
    """A tensor (N, …) that is filled row by row, with room for so many and more where they come."""

    def __init__(self, room: int, device: torch.device) -> None:
        self._room = room
        self._device = device
        self._filled = 0
        self._tensor = torch.empty(0)

    @property
    def tensor(self) -> Tensor:
        return self._tensor[: self._filled]

    def add(self, rows: Tensor) -> int:
        """Append one row (1, …); return its number."""
        if self._filled == len(self._tensor):
            grown = torch.empty(
                (max(self._room, 2 * self._filled), *rows.shape[1:]), dtype=rows.dtype, device=self._device
            )
            if self._filled:
                grown[: self._filled] = self._tensor
            self._tensor = grown
        self._tensor[self._filled] = rows[0].to(self._device, non_blocking=True)
        self._filled += 1
        return self._filled - 1


def _affine(draw: Draw, place: Place, row: int, image_size: int) -> tuple[int, int, int]:
    """Return where the first pixel of a draw is among those of all layouts, and what a step down and right adds."""
    side = draw.crop or image_size
    top, left = corner(image_size, image_size, side, *place)
    # As `turn` does: mirrored at the diagonal first, then upside down, then from left to right.
    down, right = (1, image_size) if draw.symmetry & 4 else (image_size, 1)
    start = (row * image_size + top) * image_size + left
    if draw.symmetry & 1:
        start, down = start + (side - 1) * down, -down
    if draw.symmetry & 2:
        start, right = start + (side - 1) * right, -right
    return start, down, right
