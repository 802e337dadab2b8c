"""A data set that is opened and split, and its batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from attrs import frozen
from torch import Tensor

from imginav.data.batches import (
    EpochOrder,
    LayoutReader,
    Loaded,
    TrainingBatches,
    Unreadable,
    in_order,
    loader,
    rgb_of,
    stack,
)
from imginav.data.device_layouts import DeviceLayouts
from imginav.errors import UserError
from imginav.manifest.fingerprints import DataFingerprint, LayoutsFingerprint, SplitFingerprint, sha256_of_lines
from imginav.manifest.tables import Train
from imginav.plugin.components import Dataset, LayoutSource, Sample
from imginav.processes.distributed import ALONE, World
from imginav.seeds import Seeds
from imginav.terminal import show_progress

MOST_DRAWS = 50_000_000
"""Places of an epoch's crops: with their order and turns they take 1.6 GB."""


LARGEST_SHARE = 0.5
"""Of a GPU's free memory, that all layouts may take together: the rest is for the network and what it computes."""


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


def fingerprint(source: LayoutSource, image_size: int, split: Split) -> DataFingerprint:
    """Return the fingerprint of opened layouts and their split."""
    names = [source.identity(index) for index in range(len(source))]
    palette = source.spec.palette
    classes = [repr(palette.names), repr(palette.colours), repr(palette.background)]
    return DataFingerprint(
        layouts=LayoutsFingerprint(
            rows=len(source),
            sha256=sha256_of_lines([str(image_size), *classes, *names]),
            description=source.describe(),
        ),
        split=SplitFingerprint(
            train=len(split.train),
            validation=len(split.validation),
            by=split.by,
            sha256=sha256_of_lines([names[index] for index in split.validation]),
        ),
    )


def passes_per_epoch(layouts: int, dataset: Dataset, train: Train) -> int:
    """Return how many times an epoch passes over so many training layouts: once, unless that is too few steps."""
    steps_of_one = math.ceil(layouts * dataset.crops / train.batch_size)
    return max(1, math.ceil((train.min_epoch_steps or 1) / steps_of_one))


def steps_per_epoch(layouts: int, dataset: Dataset, train: Train) -> int:
    """Return the optimizer steps in which each of so many training layouts, or each crop of it, is seen in each pass.

    Raises UserError where these are more than memory holds the order of.
    """
    passes = passes_per_epoch(layouts, dataset, train)
    draws, most = layouts * dataset.crops * passes, MOST_DRAWS // dataset.crop_candidates
    if draws > most:
        key = f"train.min_epoch_steps = {train.min_epoch_steps}" if passes > 1 else f"data.crops = {dataset.crops}"
        places = f" with data.crop_candidates = {dataset.crop_candidates}" if dataset.crop_candidates > 1 else ""
        raise UserError(
            f"{key} makes {draws:,} crops of {layouts:,} training layouts, in each epoch; {most:,} are the "
            f"most{places}: lower {key.partition(' ')[0]}, and raise train.epochs"
        )
    return math.ceil(draws / train.batch_size)


def open_fingerprint(dataset: Dataset, train: Train) -> DataFingerprint:
    """Open a data set for its fingerprint alone; raises UserError where it cannot be opened or split."""
    source = dataset.open()
    return fingerprint(source, dataset.image_size, split_as(source, train))


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
        world: World = ALONE,
    ) -> None:
        """Split the layouts as the manifest says, or as told; raises UserError where one side would be empty.

        Where several processes train, each gets its rows of a training batch, and its share of the validation layouts.
        """
        self.source = source
        self.image_size = dataset.image_size
        self.batch_size = train.batch_size
        self.left_out = list(source.left_out())  # a sentence for each layout that was, in the order found
        self._skips = dataset.on_bad == "skip"
        self._found_unreadable: set[int] = set()
        self.split = split or split_as(source, train)
        self.fingerprint = fingerprint(source, dataset.image_size, self.split)
        # Whole layouts in batches of as many pixels as a batch of crops has, so that memory holds for both.
        share = (dataset.crop / dataset.image_size) ** 2 if dataset.crop else 1.0
        whole_batch_size = max(1, int(train.batch_size * share))
        self.whole_batch_size = max(1, whole_batch_size // world.size)  # that this process computes at a time
        self._training = TrainingBatches(
            indices=self.split.train,
            seeds=seeds,
            steps=steps_per_epoch(len(self.split.train), dataset, train),
            batch_size=train.batch_size,
            whole_batch_size=whole_batch_size,
            crop=dataset.crop,
            crops=dataset.crops * passes_per_epoch(len(self.split.train), dataset, train),
            candidates=dataset.crop_candidates,
            crop_epochs=train.epochs - dataset.whole_epochs,
            augment=dataset.augment,
        )
        self._side = dataset.crop or dataset.image_size
        self._alone = world.size == 1
        self._order = EpochOrder(self._training, world)
        self._reader = LayoutReader(source)
        self._workers = workers
        self._train = loader(self._reader, self._order, workers=workers)
        batches = in_order(self.split.validation, self.whole_batch_size)
        self._validation_order = batches[world.rank :: world.size]
        self._validation = loader(self._reader, self._validation_order, workers=workers)
        self._on_device: DeviceLayouts | None = None  # none: each batch is read when it is needed

    def keep_on_device(self, device: torch.device, where: Literal["auto", "device"]) -> None:
        """Read the layouts that are trained on and that validate now, and keep them on a device as bytes.

        The batches stay the same. With `auto` it is done on a GPU that keeps half of its memory free with them. Raises
        UserError for a layout that cannot be read, as training would, and where they have to fit and do not.
        """
        indices = list(dict.fromkeys((*self.split.train, *self.split.validation)))
        if where == "auto" and not self._fit(len(indices), device):
            return
        reading = loader(self._reader, in_order(indices, 1), workers=self._workers)
        shown = show_progress(reading, f"layouts to {device.type}", len(indices))
        try:
            self._on_device = DeviceLayouts(
                self._readable(shown, all_of_it=self._alone), len(indices), self.source.spec.palette, device
            )
        except torch.OutOfMemoryError as error:
            if where == "device":
                raise UserError(
                    f"machine.layouts = 'device': {len(indices):,} layouts do not fit into the memory of {device}; "
                    "take 'auto' or 'host'"
                ) from error

    def _fit(self, layouts: int, device: torch.device) -> bool:
        """Whether so many layouts as the first one leave half of a GPU's free memory to what trains on them."""
        if device.type != "cuda":
            return False
        samples, _ = first_samples(self.source, self.split.train, 1)
        needed = layouts * sum(array.nbytes for sample in samples for array in sample.values())
        return needed <= LARGEST_SHARE * torch.cuda.mem_get_info(device)[0]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which every training layout, or a crop of it, is seen once, or in each of several passes.

        An epoch of whole layouts in place of crops takes as many, with about as many pixels, and sees a part of them.
        """
        return self._training.steps

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Return an epoch's batches in the order of this epoch; the first `start` are not read.

        What cannot be read raises UserError, or with data.on_bad = "skip" is missing in its batch; a batch of which
        nothing can be read is empty. An epoch of which nothing can be read raises UserError at its end in any case.
        """
        self._order.epoch, self._order.start = epoch, start
        # What is left of an epoch may well be unreadable as a whole: an unbroken run would have gone on after it.
        # Of the batches of several processes, others may have been read elsewhere.
        all_of_it = self._alone and start == 0
        batches = map(self._on_device.batch, self._order) if self._on_device else self._train
        return (loaded.layouts for loaded in self._readable(batches, all_of_it=all_of_it))

    def blank(self) -> dict[str, Tensor]:
        """Return a batch of bytes of one black image, of the size that is trained on."""
        return {"rgb": torch.zeros(1, self._side, self._side, 3, dtype=torch.uint8)}

    def names_of_batch(self, epoch: int, number: int) -> list[str]:
        """Return what a person would call the layouts of an epoch's batch; batches count from 0."""
        return [self.source.name(draw.layout) for draw in next(self._training.of(epoch, number))]

    def validation_batches(self) -> Iterator[dict[str, Tensor]]:
        """Return the validation layouts, whole, always in the same order; none of the batches is empty.

        What cannot be read is treated as in training.
        """
        batches = map(self._on_device.batch, self._validation_order) if self._on_device else self._validation
        readable = self._readable(batches, all_of_it=self._alone)
        return (loaded.layouts for loaded in readable if loaded.layouts)

    def whole_batches(self, indices: Sequence[int]) -> Iterator[Loaded]:
        """Return some layouts, whole, in their order, with their indices; none of the batches is empty.

        What cannot be read is treated as in training.
        """
        batches = in_order(indices, self.whole_batch_size)
        loading = loader(self._reader, batches, workers=min(self._workers, len(batches)))
        return (loaded for loaded in self._readable(loading, all_of_it=True) if loaded.layouts)

    def validation_samples(self, count: int) -> dict[str, Tensor]:
        """Return the first `count` validation layouts as one batch of bytes, with `rgb`, always the same ones.

        With data.on_bad = "skip" these are the first that can be read. Raises UserError where none can.
        """
        samples, unreadable = first_samples(self.source, self.split.validation, count)
        self._leave_out(unreadable)
        if not samples:
            raise UserError(self._nothing_readable(unreadable[0].reason))
        palette = self.source.spec.palette
        return stack([{**sample, "rgb": rgb_of(sample, palette)} for sample in samples], palette)

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
        self._on_device = None


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
