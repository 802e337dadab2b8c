"""A set of latents on the disk, as `imginav embed` writes it: read by index, and verified.

Latents lie in shards of safetensors: nothing in them can be executed, a shard is mapped into memory and a single latent
is read from it without the others, and torch, numpy, JAX and Rust read it alike. Each shard says what it holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import attrs
import torch
from attrs import field, frozen, validators
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from imginav.errors import UserError
from imginav.manifest.json_record import MissingRecordError, load_record_of, save_record
from imginav.plugin.checkpoint import sha256_of
from imginav.plugin.palette import UNMATCHED
from imginav_evaluation.csv_files import read_rows
from imginav_handoff.export_folder import DIGESTS, LATENT, check_digests
from imginav_handoff.latent_space import load_latent_space

Log = Callable[[str], None]

FILE, INDEX = "latent_set.json", "index.csv"

VERSION = ("version", 1)
"""The version of the folder's layout."""

HELD = "imginav"
"""The entry of a shard's metadata that says, as JSON, what it holds."""

ROWS, LEFT_OUT, DIGEST = "rows", "left_out", "sha256"
"""In that: its rows, what could not be read, and the digest of its tensors."""

FLIPS: dict[str, tuple[int, ...]] = {"none": (0,), "horizontal": (0, 2), "vertical": (0, 1), "both": (0, 2, 1, 3)}
"""The flips of each layout by the name of the choice; of a number, bit 0 is upside down and bit 1 mirrored."""

SAME = 1e-6
"""How far the mean and the standard deviation of a set may lie from what was written down, by rounding alone."""


class Row(NamedTuple):
    """One latent: which layout it is of."""

    layout: int  # its index in the set of layouts
    flip: int  # see FLIPS
    name: str  # what a person calls the layout: its path, or its number
    scene: str
    type: str  # such as room or scene; empty where it is not known
    split: str  # train or validation; empty where the layouts were not split
    sha256: str  # of the RGB bytes (H, W, 3) that were encoded


class LeftOut(NamedTuple):
    """A layout that could not be read."""

    layout: int
    flip: int
    reason: str


@frozen(kw_only=True)
class LatentSetRecord:
    """`latent_set.json`: what a set of latents is of, and what came of it."""

    weights_sha256: str
    experiment: str
    data: str  # the layouts, for people
    layouts_sha256: str  # of what each layout is, its size and the palette
    split_sha256: str
    layouts: int = field(validator=validators.ge(1))
    image_size: int
    flips: str = field(validator=validators.in_(FLIPS))
    precision: str  # of the latents in the files
    computed_in: str
    shard: int = field(validator=validators.ge(1))  # latents in each file but the last
    format: str = "safetensors"  # the exporter that writes them as files of its own, beside the shards
    finished: bool = False
    latents: int = 0
    left_out: tuple[str, ...] = ()  # layouts that could not be read, and why
    measured_on: str = ""  # train, or all where nothing was split
    mean: float = 0.0  # of scaled latents; of a variational encoder, of drawn ones
    std: float = 0.0

    @property
    def request(self) -> LatentSetRecord:
        """What was asked for, without what came of it."""
        return attrs.evolve(
            self, finished=False, latents=0, left_out=(), measured_on="", mean=0.0, std=0.0, data="", experiment=""
        )

    def plan(self) -> list[tuple[int, int]]:
        """Return layout and flip of every latent, in their order."""
        return [(layout, flip) for layout in range(self.layouts) for flip in FLIPS[self.flips]]

    def shards(self) -> list[list[tuple[int, int]]]:
        """Return the plan in the parts that the files hold."""
        plan = self.plan()
        return [plan[start : start + self.shard] for start in range(0, len(plan), self.shard)]

    def save(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        save_record(folder / FILE, self, VERSION)


def load_latent_set_record(folder: Path) -> LatentSetRecord:
    """Read the record of a set; raises UserError where there is none that fits."""
    what, remedy = "the record of a set of latents", "embed into another folder"
    try:
        return load_record_of(folder / FILE, LatentSetRecord, what, remedy, VERSION)
    except MissingRecordError:
        raise UserError(f"{folder}: is no set of latents: it has no {FILE}; make one with imginav embed") from None


def shard_path(folder: Path, number: int) -> Path:
    """Return the file of a shard; they count from 0."""
    return folder / f"latents_{number:05d}.safetensors"


@frozen
class Shard:
    """What a file of latents says that it holds."""

    rows: list[Row]
    left_out: list[LeftOut]
    digest: str

    def holds(self, plan: Sequence[tuple[int, int]]) -> bool:
        """Whether it has each of these layouts with its flip once, in their order, or says why not."""
        missing = {(layout.layout, layout.flip) for layout in self.left_out}
        kept = [place for place in plan if place not in missing]
        return [(row.layout, row.flip) for row in self.rows] == kept and len(kept) + len(missing) == len(plan)


def read_shard(path: Path) -> Shard:
    """Read what a shard says that it holds; raises UserError where it is damaged, but does not look at its latents."""
    try:
        with safe_open(path, framework="pt") as file:
            said = json.loads((file.metadata() or {})[HELD])
            names = set(file.keys())
            lengths = {name: file.get_slice(name).get_shape()[0] for name in names}
        shard = Shard(
            [Row(*row) for row in said[ROWS]],
            [LeftOut(*layout) for layout in said[LEFT_OUT]],
            said[DIGEST],
        )
        if "mean" not in names or set(lengths.values()) != {len(shard.rows)}:
            raise ValueError("it holds another number of latents than it says")
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give the command that wrote it again") from None
    return shard


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a shard; raises UserError where they are not what was written."""
    held = read_shard(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    if held.digest != sha256_of(tensors):
        raise UserError(
            f"{path}: is damaged: its latents are not what was written (SHA-256); delete it and embed again"
        )
    return tensors


class LatentDataset(Dataset[dict[str, Any]]):
    """The latents of a set, scaled, for diffusion training; a torch Dataset that any number of processes may read.

    An item has `latents` (C, h, w) in fp32, scaled to zero mean and unit standard deviation over the training layouts;
    `layout`, its index in the set of layouts; `flip`, see FLIPS; `label`, the index of its type in
    `latent.spec.labels`, -1 where it is not known.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        split: Literal["train", "validation"] | None = None,
        flips: bool = True,
        draw: bool = True,
    ) -> None:
        """Open a finished set; its files are not checked against their digests, as `imginav verify` does.

        With a `split` only its layouts are there, without `flips` no mirrored ones. With `draw` the latents of a
        variational encoder are drawn from their distribution at each access, by torch's global generator, which torch
        seeds anew for each worker and epoch; otherwise they are its mean. Raises UserError for an unfinished set, or
        one that was not split.
        """
        self._folder = Path(folder)
        self.record = load_latent_set_record(self._folder)
        if not self.record.finished:
            raise UserError(f"{folder}: is not finished; give the command that writes it again, and it goes on")
        self.latent = load_latent_space(self._folder / LATENT)
        self._draw = draw and self.latent.variational
        self._places: list[tuple[int, int]] = []  # shard, and position in it
        self.rows: list[Row] = []
        for number in range(len(self.record.shards())):
            for position, row in enumerate(read_shard(shard_path(self._folder, number)).rows):
                if split in (None, row.split) and (flips or not row.flip):
                    self._places.append((number, position))
                    self.rows.append(row)
        if not self.rows:
            raise UserError(
                f"{folder}: has no latents of split = {split!r}; leave it out, or embed the training's layouts"
            )
        self._open: dict[int, Any] = {}  # shards that this process reads

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, position = self._places[index]
        shard = self._shard(number)
        latents = shard.get_slice("mean")[position : position + 1][0].float()
        if self._draw:
            log_variance = shard.get_slice("log_variance")[position : position + 1][0].float()
            latents = latents + torch.exp(0.5 * log_variance) * torch.randn(latents.shape)
        row = self.rows[index]
        label = self.latent.spec.labels.index(row.type) if row.type in self.latent.spec.labels else -1
        return {"latents": self.latent.scaled(latents), "layout": row.layout, "flip": row.flip, "label": label}

    def _shard(self, number: int) -> Any:
        if number not in self._open:
            self._open[number] = safe_open(shard_path(self._folder, number), framework="pt")
        return self._open[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # a worker opens its own


def statistics(folder: Path, record: LatentSetRecord) -> tuple[str, float, float]:
    """Return on which layouts, and the mean and standard deviation of their scaled latents, drawn where they can be.

    These are the training layouts, or all where nothing was split. Raises UserError for latents that are damaged.
    """
    latent = load_latent_space(folder / LATENT)
    count = total = square = 0.0
    split = False
    for number in range(len(record.shards())):
        path = shard_path(folder, number)
        rows, tensors = read_shard(path).rows, read_tensors(path)
        split = split or any(row.split for row in rows)
        counted = torch.tensor([row.split in ("", "train") for row in rows], dtype=torch.bool)
        values = latent.scaled(tensors["mean"][counted].double())
        if not bool(torch.isfinite(values).all()):
            raise UserError(f"{path}: holds latents that are not finite; delete it and embed again")
        count += values.numel()
        total += float(values.sum())
        square += float(values.square().sum())
        if latent.variational:
            square += float(latent.scaled_log_variance(tensors["log_variance"][counted].double()).exp().sum())
    if not count:
        raise UserError(f"{folder}: none of the layouts could be read, so that there are no latents")
    mean = total / count
    return "train" if split else "all", mean, math.sqrt(max(0.0, square / count - mean**2))


def index_lines(folder: Path, record: LatentSetRecord) -> Iterator[dict[str, Any]]:
    """Return the rows of index.csv, from the shards."""
    number = 0
    for place in range(len(record.shards())):
        path = shard_path(folder, place)
        for position, row in enumerate(read_shard(path).rows):
            yield {"latent": number, "shard": path.name, "position": position, **row._asdict()}
            number += 1


def verify_latent_set(folder: Path, log: Log = print) -> None:
    """Verify that a set is what was written: every layout once or left out for a reason, all latents finite.

    Raises UserError otherwise.
    """
    record = load_latent_set_record(folder)
    if not record.finished:
        raise UserError(f"{folder}: is not finished; give the command that writes it again, and it goes on")
    log(f"{folder}: {check_digests(folder)} files are what was written ({DIGESTS})")
    for number, plan in enumerate(record.shards()):
        path = shard_path(folder, number)
        if not read_shard(path).holds(plan):
            raise UserError(f"{path}: does not hold the layouts that it is for, each once; delete it and embed again")
    lines = [{key: str(value) for key, value in line.items()} for line in index_lines(folder, record)]
    if lines != read_rows(folder / INDEX, "delete it and embed again"):
        raise UserError(f"{folder / INDEX}: does not agree with the shards; delete it and embed again")
    flips = len(FLIPS[record.flips])
    times = f" × {flips} flips" if flips > 1 else ""
    out = f", {len(record.left_out)} left out" if record.left_out else ""
    log(f"  {len(lines):,} latents of {record.layouts:,} layouts{times}, none lost, none doubled{out}")
    on, mean, std = statistics(folder, record)
    if (on, len(lines)) != (record.measured_on, record.latents) or not (
        math.isclose(mean, record.mean, abs_tol=SAME) and math.isclose(std, record.std, abs_tol=SAME)
    ):
        raise UserError(f"{folder / FILE}: does not agree with the latents; delete it and embed again")
    log(f"  scaled, those of {on} have mean {mean:.4f} and standard deviation {std:.4f}")


def label_of(row: Row, labels: Sequence[str]) -> int:
    """Return the index of a layout's type in a shard's `label`."""
    return labels.index(row.type) if row.type in labels else UNMATCHED


def request_differs(one: LatentSetRecord, other: LatentSetRecord) -> str:
    """Return the name of the first thing that was asked for otherwise, or nothing."""
    first, second = (attrs.asdict(record.request) for record in (one, other))
    return next((name for name, value in first.items() if second[name] != value), "")
