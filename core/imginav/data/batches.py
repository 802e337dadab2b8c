"""Layouts as batches of bytes: what is drawn for each of them, and the processes that read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from imginav.errors import UserError
from imginav.plugin.components import LayoutSource, Sample
from imginav.plugin.palette import Palette
from imginav.processes.distributed import World
from imginav.processes.stop_request import ignore_signals_in_worker
from imginav.seeds import Seeds

SYMMETRIES = 8
"""Of a square: four quarter turns, each as it is and mirrored."""

COLUMNS_AT_ONCE = 64
"""Of a layout that lies turned in memory, which are copied while their bytes are at hand."""


Place: TypeAlias = tuple[float, float]
"""Where a square lies, downwards and to the right, as shares from 0 to less than 1 of the places that there are."""


class Draw(NamedTuple):
    """One layout of a batch, and what is drawn for it: whichever process reads it, it is the same."""

    layout: int  # its index
    crop: int | None = None  # side in pixels of the square that is cut out of it; none: it stays whole
    places: tuple[Place, ...] = ((0.0, 0.0),)  # where it may be cut, see `fullest`
    symmetry: int = 0  # see `turn`; 0: it stays as it is


@frozen
class Unreadable:
    """A layout that was to be in a batch and could not be read."""

    index: int
    reason: str


class Loaded(NamedTuple):
    """What a batch became in a loading process; a plain tuple, so that torch finds the tensors to pin in it."""

    indices: list[int]  # of those that could be read
    layouts: dict[str, Tensor]  # these as one batch of bytes, see `stack`; empty where there are none
    unreadable: list[Unreadable]


@frozen(kw_only=True)
class TrainingBatches:
    """What the batches of each epoch are, by its number; they depend on the seed and the epoch alone."""

    indices: Sequence[int]  # of the training layouts
    seeds: Seeds
    steps: int  # batches of an epoch, of crops and of whole layouts alike
    batch_size: int
    whole_batch_size: int  # of whole layouts in place of crops
    crop: int | None  # side in pixels; none: whole layouts
    crops: int  # of each layout in an epoch, or times that it is seen whole
    candidates: int  # places for each crop
    crop_epochs: float  # how many epochs crop; those after them show whole layouts
    augment: bool

    def of(self, epoch: int, start: int = 0) -> Iterator[list[Draw]]:
        """Return the batches of an epoch from number `start` on; they count from 0."""
        order = torch.randperm(len(self.indices) * self.crops, generator=self.seeds.generator("shuffle", epoch))
        shape = len(order), self.candidates, 2
        places = torch.rand(shape, generator=self.seeds.generator("crop", epoch), dtype=torch.float64)
        turns = torch.randint(SYMMETRIES, (len(order),), generator=self.seeds.generator("augment", epoch))
        crop = self.crop if epoch <= self.crop_epochs else None
        size = self.whole_batch_size if crop is None else self.batch_size
        for number in range(start, self.steps):
            part = slice(number * size, (number + 1) * size)
            drawn = zip(order[part].tolist(), places[part].tolist(), turns[part].tolist(), strict=True)
            yield [
                Draw(
                    self.indices[position % len(self.indices)],
                    crop,
                    tuple((top, left) for top, left in candidates),
                    symmetry if self.augment else 0,
                )
                for position, candidates, symmetry in drawn
            ]


class EpochOrder(Sampler[list[Draw]]):
    """The batches of the epoch that it was told last, of each the rows of this process."""

    def __init__(self, batches: TrainingBatches, world: World) -> None:
        self._batches = batches
        self._world = world
        self.epoch = 0
        self.start = 0  # how many batches of the epoch are left out: those that a resumed run has seen

    def __iter__(self) -> Iterator[list[Draw]]:
        return (draws[self._world.of_batch(len(draws))] for draws in self._batches.of(self.epoch, self.start))

    def __len__(self) -> int:
        return self._batches.steps - self.start


def in_order(indices: Sequence[int], size: int) -> list[list[Draw]]:
    """Return whole layouts in batches of `size`, in their order."""
    return [[Draw(index) for index in indices[start : start + size]] for start in range(0, len(indices), size)]


class LayoutReader(TorchDataset[Loaded]):
    """Reads a batch of layouts, and cuts and turns each as it was drawn.

    A layout that cannot be read is given with the reason: raised in a loading process, the error would come out as a
    traceback, and the rest of its batch would be lost.
    """

    def __init__(self, source: LayoutSource) -> None:
        self._source = source

    def __getitem__(self, draws: Sequence[Draw]) -> Loaded:
        indices: list[int] = []
        samples: list[Sample] = []
        unreadable: list[Unreadable] = []
        for draw in draws:
            try:
                sample = self._source.read(draw.layout)
            except UserError as error:
                unreadable.append(Unreadable(draw.layout, str(error)))
                continue
            if draw.crop is not None:
                sample = crop(sample, draw.crop, *fullest(sample, draw.crop, draw.places))
            indices.append(draw.layout)
            samples.append(turn(sample, draw.symmetry) if draw.symmetry else sample)
        return Loaded(indices, stack(samples, self._source.spec.palette) if samples else {}, unreadable)


def loader(
    reader: LayoutReader, batches: Sampler[list[Draw]] | Iterable[list[Draw]], *, workers: int
) -> DataLoader[Loaded]:
    """Return the batches as they are read, in this process or in `workers` others."""
    return DataLoader(
        reader,
        batch_size=None,  # the sampler gives whole batches, and the reader puts them together
        sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=ignore_signals_in_worker,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # torch's types know no batches that are put together already
        generator=torch.Generator(),  # its own, or each pass would draw from the global one
    )


def _as_it_is(loaded: Loaded) -> Loaded:
    return loaded


def crop(sample: Sample, side: int, top: float, left: float) -> Sample:
    """Return a square of `side` pixels, the same one of everything that has pixels.

    `top` and `left`, from 0 to less than 1, say which of the places that there are for it, downwards and to the right.
    """
    height, width = next(array.shape[:2] for array in sample.values() if array.ndim >= 2)
    y, x = corner(height, width, side, top, left)
    return {name: array[y : y + side, x : x + side] if array.ndim >= 2 else array for name, array in sample.items()}


def corner(height: int, width: int, side: int, top: float, left: float) -> tuple[int, int]:
    """Return the row and the column of the first pixel of the square that `top` and `left` place, see `crop`."""
    return int(top * (height - side + 1)), int(left * (width - side + 1))


def fullest(sample: Sample, side: int, places: Sequence[Place]) -> Place:
    """Return the place whose square has most pixels that differ from their upper left neighbour; of several, the first.

    Of a drawn layout most is flat: what there is to learn lies where classes meet.
    """
    if len(places) == 1:
        return places[0]
    name = "segmentation" if "segmentation" in sample else "rgb"
    squares = [crop({name: sample[name]}, side, *place)[name] for place in places]
    differ = [square[1:, 1:] != square[:-1, :-1] for square in squares]
    counts = [np.count_nonzero(pixels.any(axis=2) if pixels.ndim == 3 else pixels) for pixels in differ]
    return places[int(np.argmax(counts))]


def turn(sample: Sample, symmetry: int) -> Sample:
    """Return one of the eight symmetries of everything that has pixels, without a look at these.

    Bit 0 turns it upside down, bit 1 mirrors it, bit 2 mirrors it first at the diagonal: 5 and 6 are quarter turns.
    """

    def turned(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if symmetry & 4:
            array = array.swapaxes(0, 1)
        return array[:: -1 if symmetry & 1 else 1, :: -1 if symmetry & 2 else 1]

    return {name: turned(array) if array.ndim >= 2 else array for name, array in sample.items()}


def rgb_of(sample: Sample, palette: Palette) -> NDArray[np.uint8]:
    """Return the pixels of a layout as RGB bytes (H, W, 3), whether the sample has them or its classes alone."""
    return sample["rgb"] if "rgb" in sample else palette.colour(sample["segmentation"])


def stack(samples: Sequence[Sample], palette: Palette) -> dict[str, Tensor]:
    """Return layouts as one batch of bytes, which `Device.batch` takes.

    It has each array of the samples as a tensor (N, ...). Where all of them leave out `rgb`, so does the batch; it has
    `colours` (256, 3) in its place, the RGB bytes of each class index, so that a third of the bytes moves.
    """
    batch = {name: _stacked([sample[name] for sample in samples]) for name in samples[0] if name != "rgb"}
    if any("rgb" in sample for sample in samples):
        return {"rgb": _stacked([rgb_of(sample, palette) for sample in samples]), **batch}
    return {**batch, "colours": torch.from_numpy(palette.table.copy())}


def _stacked(arrays: Sequence[NDArray[np.uint8]]) -> Tensor:
    batch = np.empty((len(arrays), *arrays[0].shape), dtype=arrays[0].dtype)
    for number, array in enumerate(arrays):
        if array.ndim >= 2 and abs(array.strides[0]) < abs(array.strides[1]):
            for start in range(0, array.shape[1], COLUMNS_AT_ONCE):
                columns = slice(start, start + COLUMNS_AT_ONCE)
                batch[number, :, columns] = array[:, columns]
        else:
            batch[number] = array
    return torch.from_numpy(batch)


def layouts_in(sample_bytes: dict[str, Tensor]) -> int:
    """Return how many layouts a batch of bytes has, which may be empty."""
    return len(sample_bytes["rgb"] if "rgb" in sample_bytes else sample_bytes.get("segmentation", ()))
