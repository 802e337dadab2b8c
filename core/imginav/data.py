"""From a data set to batches: the split, the order, the crops."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from attrs import frozen
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from imginav.components import Dataset, LayoutSource, Sample
from imginav.errors import UserError
from imginav.fingerprints import DataPrint, LayoutsPrint, SplitPrint, sha256_of_lines
from imginav.interruption import leave_signals_to_the_run
from imginav.manifest import Train
from imginav.seeds import Seeds


@frozen
class Split:
    """Which layouts are trained on and which validate, by index."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    by: str  # what was kept together: scenes, or single layouts where no scene is known; empty: they are the same

    def __str__(self) -> str:
        if not self.by:
            return f"all {len(self.validation):,} of them"
        return f"{len(self.train)} train, {len(self.validation)} validate, split by {self.by}"


def everything(source: LayoutSource) -> Split:
    """Return all layouts, to encode and to rebuild: a set that nothing is trained on."""
    indices = tuple(range(len(source)))
    return Split(indices, indices, "")


def fingerprint(source: LayoutSource, image_size: int, split: Split) -> DataPrint:
    """Return the fingerprint of opened layouts and their split."""
    names = [source.identity(index) for index in range(len(source))]
    palette = source.spec.palette
    return DataPrint(
        layouts=LayoutsPrint(
            rows=len(source),
            sha256=sha256_of_lines([str(image_size), repr(palette.names), repr(palette.colours), *names]),
            description=source.describe(),
        ),
        split=SplitPrint(
            train=len(split.train),
            validation=len(split.validation),
            by=split.by,
            sha256=sha256_of_lines([names[index] for index in split.validation]),
        ),
    )


def open_print(dataset: Dataset, train: Train) -> DataPrint:
    """Open a data set for its fingerprint alone; raises UserError where it cannot be opened or split."""
    source = dataset.open()
    return fingerprint(source, dataset.image_size, split_as(source, train))


@frozen
class Draw:
    """One layout of one epoch; all that is random in reading it follows from these numbers."""

    epoch: int
    index: int


@frozen
class Readable:
    """A layout as a sample of bytes."""

    index: int
    layout: dict[str, Tensor]


@frozen
class Unreadable:
    """A layout that was to be in a batch and could not be read."""

    index: int
    reason: str


class Loaded(NamedTuple):
    """What a batch became in a loading process; a plain tuple, so that torch finds the tensors to pin in it."""

    indices: list[int]  # of those that could be read
    layouts: dict[str, Tensor]  # these as one batch of bytes; empty where there are none
    unreadable: list[Unreadable]


class Data:
    """A data set that was opened and split, as batches of bytes."""

    def __init__(
        self,
        source: LayoutSource,
        dataset: Dataset,
        train: Train,
        seeds: Seeds,
        workers: int,
        *,
        split: Split | None = None,
    ) -> None:
        """Split the layouts as the manifest says, or as told; raises UserError where one side would be empty."""
        self.source = source
        self.image_size = dataset.image_size
        self.batch_size = train.batch_size
        self.left_out = list(source.left_out())  # a sentence for each layout that was, in the order found
        self._skips = dataset.on_bad == "skip"
        self._found_unreadable: set[int] = set()
        self.split = split or split_as(source, train)
        self.fingerprint = fingerprint(source, dataset.image_size, self.split)
        self._order = EpochOrder(self.split.train, seeds)
        reader = LayoutReader(source, dataset.crop, seeds)
        self._train = _loader(reader, self._order, batch_size=train.batch_size, workers=workers)
        # Whole layouts in batches of as many pixels as a batch of crops has, so that memory holds for both.
        share = (dataset.crop / dataset.image_size) ** 2 if dataset.crop else 1.0
        self.whole_batch_size = max(1, int(train.batch_size * share))
        self._whole = functools.partial(_loader, LayoutReader(source, None, seeds), batch_size=self.whole_batch_size)
        self._workers = workers
        self._validation = self._whole(_in_order(self.split.validation), workers=workers)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which every training layout is seen once."""
        return math.ceil(len(self.split.train) / self.batch_size)

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Return an epoch's batches, each layout once, in the order of this epoch; the first `start` are not read.

        What cannot be read raises UserError, or with data.on_bad = "skip" is missing in its batch; a batch of which
        nothing can be read is empty. An epoch of which nothing can be read raises UserError at its end in any case.
        """
        self._order.epoch, self._order.start = epoch, start * self.batch_size
        # What is left of an epoch may well be unreadable as a whole: an unbroken run would have gone on after it.
        return (loaded.layouts for loaded in self._readable(self._train, all_of_it=start == 0))

    def names_of_batch(self, epoch: int, number: int) -> list[str]:
        """Return what a person would call the layouts of an epoch's batch; batches count from 0."""
        places = slice(number * self.batch_size, (number + 1) * self.batch_size)
        return [self.source.name(draw.index) for draw in self._order.of(epoch)[places]]

    def validation_batches(self) -> Iterator[dict[str, Tensor]]:
        """Return the validation layouts, whole, always in the same order; none of the batches is empty.

        What cannot be read is treated as in training.
        """
        return (loaded.layouts for loaded in self._readable(self._validation, all_of_it=True) if loaded.layouts)

    def whole_batches(self, indices: Sequence[int]) -> Iterator[Loaded]:
        """Return some layouts, whole, in their order, with their indices; none of the batches is empty.

        What cannot be read is treated as in training.
        """
        batches = self._whole(_in_order(indices), workers=min(self._workers, len(indices)))
        return (loaded for loaded in self._readable(batches, all_of_it=True) if loaded.layouts)

    def validation_samples(self, count: int) -> dict[str, Tensor]:
        """Return the first `count` validation layouts as one batch of bytes, always the same ones.

        With data.on_bad = "skip" these are the first that can be read. Raises UserError where none can.
        """
        samples, unreadable = first_samples(self.source, self.split.validation, count)
        self._leave_out(unreadable)
        if not samples:
            raise UserError(self._nothing_readable(unreadable[0].reason))
        return stack([to_tensors(sample) for sample in samples])

    def _readable(self, batches: Iterable[Loaded], *, all_of_it: bool) -> Iterator[Loaded]:
        """Return what could be read; raises UserError where that is nothing at all, and `all_of_it` was tried."""
        first = ""
        anything = False
        for loaded in batches:
            self._leave_out(loaded.unreadable)
            first = first or next((layout.reason for layout in loaded.unreadable), "")
            anything = anything or bool(loaded.layouts)
            yield loaded
        if first and all_of_it and not anything:
            raise UserError(self._nothing_readable(first))

    def _leave_out(self, unreadable: Sequence[Unreadable]) -> None:
        """Note each layout once; raises UserError with the first where they are not to be skipped."""
        if unreadable and not self._skips:
            raise UserError(unreadable[0].reason)
        for layout in unreadable:
            if layout.index not in self._found_unreadable:
                self._found_unreadable.add(layout.index)
                self.left_out.append(layout.reason)

    def _nothing_readable(self, reason: str) -> str:
        return f"none of the layouts can be read any more, so that data.on_bad = 'skip' leaves nothing: {reason}"

    def state_dict(self) -> dict[str, Any]:
        return {"left_out": self.left_out, "unreadable": sorted(self._found_unreadable)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.left_out = list(dict.fromkeys([*state["left_out"], *self.left_out]))
        self._found_unreadable |= set(state["unreadable"])

    def close(self) -> None:
        """End the loading processes; no batches can be had afterwards.

        Left to the end of the program, torch would wait five seconds for each of them.
        """
        del self._train, self._validation


def first_samples(source: LayoutSource, indices: Sequence[int], count: int) -> tuple[list[Sample], list[Unreadable]]:
    """Return the first `count` of some layouts that can be read, and those before them that cannot."""
    samples: list[Sample] = []
    unreadable: list[Unreadable] = []
    for index in indices:
        if len(samples) == count:
            break
        try:
            samples.append(source.read(index))
        except UserError as error:
            unreadable.append(Unreadable(index, str(error)))
    return samples, unreadable


def one_sample(source: LayoutSource, dataset: Dataset) -> Sample:
    """Return the first layout, or the first that can be read; raises UserError where there is none."""
    samples, unreadable = first_samples(source, range(len(source)), 1)
    if unreadable and (dataset.on_bad == "error" or not samples):
        raise UserError(unreadable[0].reason)
    return samples[0]


def split_as(source: LayoutSource, train: Train) -> Split:
    """Split the layouts as a manifest says."""
    seed = train.seed if train.split_seed is None else train.split_seed
    return split_layouts(source, train.split, train.split_by, Seeds(seed))


def split_layouts(source: LayoutSource, share: float, by: Literal["scene", "layout"], seeds: Seeds) -> Split:
    """Split the layouts at random, so that about `share` of them are trained on and none of a scene is apart."""
    scenes = [source.scene(index) if by == "scene" else None for index in range(len(source))]
    kept_together: dict[str | int, list[int]] = {}
    for index, scene in enumerate(scenes):
        kept_together.setdefault(index if scene is None else scene, []).append(index)
    groups = list(kept_together.values())
    order = torch.randperm(len(groups), generator=seeds.generator("split")).tolist()
    train: list[int] = []
    validation: list[int] = []
    for group in (groups[position] for position in order):
        (train if len(train) < round(share * len(source)) else validation).extend(group)
    if not train or not validation:
        raise UserError(
            f"train.split = {share} leaves {len(train)} layouts to train on and {len(validation)} to validate, out of "
            f"{len(source)} in {len(groups)} groups; both need at least one: change train.split or train.split_by, "
            "or take more layouts"
        )
    return Split(tuple(train), tuple(validation), "scene" if any(scene is not None for scene in scenes) else "layout")


class EpochOrder(Sampler[Draw]):
    """The training layouts in an order that depends on the seed and the epoch alone."""

    def __init__(self, indices: Sequence[int], seeds: Seeds) -> None:
        self._indices = indices
        self._seeds = seeds
        self.epoch = 0
        self.start = 0  # how many layouts of the epoch are left out: those that a resumed run has seen

    def of(self, epoch: int) -> list[Draw]:
        """Return the whole order of an epoch."""
        order = torch.randperm(len(self._indices), generator=self._seeds.generator("shuffle", epoch))
        return [Draw(epoch, self._indices[position]) for position in order.tolist()]

    def __iter__(self) -> Iterator[Draw]:
        return iter(self.of(self.epoch)[self.start :])

    def __len__(self) -> int:
        return len(self._indices) - self.start


class LayoutReader(TorchDataset[Readable | Unreadable]):
    """Reads layouts, and cuts a square out of each where crops are asked for.

    A layout that cannot be read is given with the reason: raised in a loading process, the error would come out as a
    traceback, and the rest of its batch would be lost.
    """

    def __init__(self, source: LayoutSource, crop: int | None, seeds: Seeds) -> None:
        self._source = source
        self._crop = crop
        self._seeds = seeds

    def __getitem__(self, draw: Draw) -> Readable | Unreadable:
        try:
            sample = self._source.read(draw.index)
        except UserError as error:
            return Unreadable(draw.index, str(error))
        if self._crop is not None:
            # Seeded by the draw itself, so that the crop is the same in whichever process it is read.
            rng = np.random.default_rng((self._seeds.seed, draw.epoch, draw.index))
            sample = crop(sample, self._crop, rng)
        return Readable(draw.index, to_tensors(sample))


def crop(sample: Sample, side: int, rng: np.random.Generator) -> Sample:
    """Return a square of `side` pixels at a random place, the same one of everything that has pixels."""
    height, width = sample["rgb"].shape[:2]
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - side + 1))
    return {
        name: array[top : top + side, left : left + side] if array.ndim >= 2 else array
        for name, array in sample.items()
    }


def _in_order(indices: Sequence[int]) -> list[Draw]:
    return [Draw(0, index) for index in indices]


def _loader(
    reader: LayoutReader, draws: Sampler[Draw] | list[Draw], *, batch_size: int, workers: int
) -> DataLoader[Readable | Unreadable]:
    return DataLoader(
        reader,
        batch_size=batch_size,
        sampler=draws,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=leave_signals_to_the_run,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate,
        generator=torch.Generator(),  # its own, or each pass would draw from the global one
    )


def collate(samples: Sequence[Readable | Unreadable]) -> Loaded:
    """Return those samples that could be read as one batch of bytes, and the others beside it."""
    readable = [sample for sample in samples if isinstance(sample, Readable)]
    return Loaded(
        [sample.index for sample in readable],
        stack([sample.layout for sample in readable]) if readable else {},
        [sample for sample in samples if isinstance(sample, Unreadable)],
    )


def stack(samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return samples as one batch."""
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def to_tensors(sample: Sample) -> dict[str, Tensor]:
    """Return the arrays of a sample as tensors of bytes."""
    return {name: torch.from_numpy(np.require(array, requirements=["C", "W"])) for name, array in sample.items()}
