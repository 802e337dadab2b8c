"""`imginav embed`: the latents of a set of layouts, once, for all epochs of diffusion training.

Which layouts a shard holds follows from its number alone, and each shard is written whole or not at all: a command that
was killed goes on with the shards that are missing, and no latent can be lost or be there twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from attrs import evolve, frozen
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save
from torch import Tensor

from imginav.data.batches import Draw, LayoutReader, Loaded, loader
from imginav.data.loader import Split, everything, fingerprint, split_as
from imginav.errors import UserError
from imginav.files import PART, write_bytes
from imginav.formatting import format_bytes, format_duration
from imginav.manifest.resolved import ResolvedManifest
from imginav.model.autoencoder import check_sizes
from imginav.plugin.checkpoint import sha256_of
from imginav.plugin.components import LayoutSource
from imginav.plugin.palette import UNMATCHED, Palette
from imginav.plugin.registry import Registry
from imginav.processes.stop_request import Interrupted, StopRequest
from imginav.runs.lock import RunLock
from imginav.training.device import Device, limits_named, open_device
from imginav.verbosity import is_quiet
from imginav_evaluation.csv_files import write_rows
from imginav_handoff.export_folder import DIGESTS, LATENT, has_all_files, write_digests
from imginav_handoff.exporter import Exporter
from imginav_handoff.formats import latents_exporter
from imginav_handoff.latent_set import (
    DIGEST,
    FILE,
    HELD,
    INDEX,
    LEFT_OUT,
    ROWS,
    LatentDataset,
    LatentSetRecord,
    LeftOut,
    Row,
    index_lines,
    label_of,
    load_latent_set_record,
    read_shard,
    read_tensors,
    request_differs,
    shard_path,
    statistics,
)
from imginav_handoff.latent_space import LatentSpace
from imginav_handoff.sources import LatentSource, open_source, resolve_source

Log = Callable[[str], None]

PIXELS_AT_ONCE = 16 * 512 * 512
"""Of a batch that is encoded, whatever the size of its layouts."""

HASHING_THREADS = 4
"""At most; hashing lets other threads run."""

SAID_SECONDS = 30.0
"""Between two lines where there is no terminal to show a bar on."""

OFF = 0.05
"""How far the standard deviation of scaled latents may be off 1 before it is said: then they are of other layouts."""

DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


@frozen(kw_only=True)
class EmbedRequest:
    """What is to be embedded, by what, and where to."""

    checkpoint: Path  # or a folder that export wrote
    to: Path
    data: Path | None = None  # a list of other layouts; none: those of the checkpoint, each with its split
    flips: str = "none"  # a key of FLIPS
    precision: Literal["fp16", "fp32"] = "fp16"  # of the latents in the files
    shard: int = 1024  # latents in each file
    format: str = "safetensors"  # an exporter that writes latents
    site: Path | None = None
    settings: tuple[str, ...] = ()


def embed(request: EmbedRequest, registry: Registry, stop_request: StopRequest | None = None, log: Log = print) -> None:
    """Write the latents of a set of layouts into a folder, or those that are missing there.

    Raises UserError where the checkpoint or layouts cannot be read, the folder holds something else or is being written
    to, or latents are not finite.
    """
    stop_request = stop_request or StopRequest()
    exporter = latents_exporter(request.format, request.flips, registry)
    # It is done once and used for weeks: unless somebody wants otherwise, in full precision.
    settings = ("machine.precision=fp32", *request.settings)
    resolved = resolve_source(request.checkpoint, registry, data=request.data, site=request.site, settings=settings)
    manifest = resolved.manifest
    check_sizes(manifest.data, manifest.encoder)
    autoencoder = open_source(request.checkpoint, registry, site=request.site, settings=settings, log=log)
    source = manifest.data.open()
    split = everything(source) if request.data is not None else split_as(source, manifest.train)
    device = open_device(manifest.machine)
    record = _record(request, resolved, source, split, autoencoder.latent, device)
    log(f"layouts: {source.describe()}; {split}")
    with RunLock(request.to, stop_request.abort, log):
        if _finished(request.to, record):
            log(f"{request.to} is finished already, with the same weights, layouts and options")
            return
        _begin(request.to, record, autoencoder.latent)
        source.prepare(manifest.machine.cache or None, log)
        device.place(autoencoder.module)
        embedder = Embedder(autoencoder, device, source, split, record)
        with limits_named():
            made, seconds = _write_missing(
                request.to, embedder, skips=manifest.data.on_bad == "skip", check=stop_request
            )
        _conclude(request, record, exporter, log)
    size = sum(path.stat().st_size for path in request.to.rglob("*") if path.is_file())
    speed = f", {made:,} of them now in {format_duration(seconds)}, {made / seconds:.1f} images/s" if made else ""
    log(f"{request.to}: {load_latent_set_record(request.to).latents:,} latents, {format_bytes(size)}{speed}")


def _record(
    request: EmbedRequest,
    resolved: ResolvedManifest,
    source: LayoutSource,
    split: Split,
    latent: LatentSpace,
    device: Device,
) -> LatentSetRecord:
    found = fingerprint(source, resolved.manifest.data.image_size, split)
    return LatentSetRecord(
        weights_sha256=latent.weights_sha256,
        experiment=resolved.manifest.phase.experiment,
        data=source.describe(),
        layouts_sha256=found.layouts.sha256,
        split_sha256=found.split.sha256 if split.by else "",
        layouts=len(source),
        image_size=resolved.manifest.data.image_size,
        flips=request.flips,
        precision=request.precision,
        computed_in=device.precision,
        shard=request.shard,
        format=request.format,
    )


def _finished(folder: Path, record: LatentSetRecord) -> bool:
    """Whether a folder holds these latents already, as a whole; raises UserError where it holds something else."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: is no folder; name another one")
    if not (folder / FILE).is_file():
        strange = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        if any(not name.endswith(PART) for name in strange):
            raise UserError(f"--out {folder}: holds something else ({sorted(strange)[0]}); name another folder")
        return False
    there = load_latent_set_record(folder)
    if other := request_differs(there, record):
        raise UserError(
            f"--out {folder}: holds latents of another {other.removesuffix('_sha256')}; name another folder, or give "
            "the command that wrote them"
        )
    if not (there.finished and (folder / INDEX).is_file() and (folder / DIGESTS).is_file()):
        return False
    with suppress(UserError):
        return has_all_files(folder) and all(
            read_shard(shard_path(folder, n)).holds(plan) for n, plan in enumerate(record.shards())
        )
    return False


def _begin(folder: Path, record: LatentSetRecord, latent: LatentSpace) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be made: {error.strerror}; name another folder") from error
    for part in folder.rglob(f".*{PART}"):  # nobody else writes here, while this process has the lock
        part.unlink(missing_ok=True)
    record.save(folder)
    latent.save(folder / LATENT)


@frozen
class Embedder:
    """What encodes layouts."""

    autoencoder: LatentSource
    device: Device
    source: LayoutSource
    split: Split
    record: LatentSetRecord

    @property
    def palette(self) -> Palette:
        return self.source.spec.palette

    @torch.inference_mode()
    def encode(self, loaded: Loaded) -> dict[str, Tensor]:
        """Return mean, and of a variational encoder log-variance, (N, C, h, w) of a batch, in fp32 on the CPU."""
        images = self.device.images(loaded.layouts)
        with self.device.autocast():
            mean, log_variance = self.autoencoder.posterior(images)
        found = {"mean": mean} if log_variance is None else {"mean": mean, "log_variance": log_variance}
        return {name: tensor.float().cpu() for name, tensor in found.items()}

    def hashes(self, loaded: Loaded, pool: ThreadPoolExecutor) -> Iterator[str]:
        """Return the SHA-256 of the RGB bytes of each layout of a batch, as they are being computed."""
        layouts = {name: tensor.numpy() for name, tensor in loaded.layouts.items()}

        def digest(place: int) -> str:
            rgb = layouts["rgb"][place] if "rgb" in layouts else layouts["colours"][layouts["segmentation"][place]]
            return hashlib.sha256(np.ascontiguousarray(rgb).data).hexdigest()

        return pool.map(digest, range(len(loaded.indices)))

    def rows(self, draws: Sequence[Draw], loaded: Loaded, validation: set[int], digests: Iterator[str]) -> list[Row]:
        """Return what the index says of each layout of a batch."""
        spec = self.source.spec
        labels = loaded.layouts["label"].tolist() if "label" in loaded.layouts else [UNMATCHED] * len(loaded.indices)
        read = set(loaded.indices)
        flips = [draw.symmetry for draw in draws if draw.layout in read]
        return [
            Row(
                layout=index,
                flip=flip,
                name=self.source.name(index),
                scene=self.source.scene(index) or "",
                type=spec.labels[label] if label < len(spec.labels) else "",
                split=("validation" if index in validation else "train") if self.split.by else "",
                sha256=digest,
            )
            for index, flip, label, digest in zip(loaded.indices, flips, labels, digests, strict=True)
        ]


def _write_missing(folder: Path, embedder: Embedder, *, skips: bool, check: StopRequest) -> tuple[int, float]:
    """Write the shards that are not there, whole; return how many latents that were, and how many seconds it took."""
    record = embedder.record
    shards = record.shards()
    missing = [number for number, plan in enumerate(shards) if not _is_whole(shard_path(folder, number), plan)]
    step = max(1, PIXELS_AT_ONCE // record.image_size**2)
    batches = [
        [Draw(layout, symmetry=flip) for layout, flip in shards[number][start : start + step]]
        for number in missing
        for start in range(0, len(shards[number]), step)
    ]
    validation = set(embedder.split.validation) if embedder.split.by else set()
    reader = LayoutReader(embedder.source)
    loading = iter(loader(reader, batches, workers=min(embedder.device.workers, len(batches))))
    embedder.autoencoder.module.eval()
    made, began = 0, time.monotonic()
    threads = min(HASHING_THREADS, os.cpu_count() or 1)
    total = sum(len(shards[number]) for number in missing)
    # A signal handler that raises inside `submit` leaves a lock of the pool held, and its shutdown deadlocks.
    with check.deferred(), ThreadPoolExecutor(threads) as pool, Shown(total, len(record.plan()) - total) as shown:
        remaining = iter(batches)
        for number in missing:
            parts: list[dict[str, Tensor]] = []
            rows: list[Row] = []
            left_out: list[LeftOut] = []
            while len(rows) + len(left_out) < len(shards[number]):
                if reason := check.check(advanced=False):  # raises if another process has taken over
                    raise Interrupted(reason)
                draws, loaded = next(remaining), next(loading)
                left_out += _left_out(draws, loaded, skips=skips)
                if loaded.indices:
                    digests = embedder.hashes(loaded, pool)
                    parts.append(embedder.encode(loaded))
                    rows += embedder.rows(draws, loaded, validation, digests)
                made += len(loaded.indices)
                shown.advance(len(draws))
            _write_shard(shard_path(folder, number), embedder, parts, rows, left_out)
    return made, max(time.monotonic() - began, 1e-9)


def _is_whole(path: Path, plan: Sequence[tuple[int, int]]) -> bool:
    if not path.is_file():
        return False
    try:
        if not read_shard(path).holds(plan):
            return False
        read_tensors(path)
    except UserError:
        return False
    return True


def _left_out(draws: Sequence[Draw], loaded: Loaded, *, skips: bool) -> list[LeftOut]:
    if loaded.unreadable and not skips:
        raise UserError(loaded.unreadable[0].reason)
    reasons = {layout.index: layout.reason for layout in loaded.unreadable}
    return [LeftOut(d.layout, d.symmetry, reasons[d.layout]) for d in draws if d.layout in reasons]


def _write_shard(
    path: Path, embedder: Embedder, parts: Sequence[Mapping[str, Tensor]], rows: list[Row], left_out: list[LeftOut]
) -> None:
    """Write a shard, whole or not at all; raises UserError for latents that are not finite."""
    record, spec = embedder.record, embedder.source.spec
    latents = {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else _empty(embedder)
    for tensor in latents.values():
        finite = torch.isfinite(tensor).flatten(1).all(dim=1)
        if not bool(finite.all()):
            name = rows[int((~finite).nonzero()[0])].name
            raise UserError(f"{name}: its latents are not finite in {record.computed_in}; take machine.precision=fp32")
    stored = {name: tensor.to(DTYPES[record.precision]).contiguous() for name, tensor in latents.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in stored.values()):
        raise UserError(f"latents are larger than {record.precision} holds; take --precision fp32")
    tensors = {
        **stored,
        "layout": torch.tensor([row.layout for row in rows], dtype=torch.int64),
        "flip": torch.tensor([row.flip for row in rows], dtype=torch.uint8),
        "label": torch.tensor([label_of(row, spec.labels) for row in rows], dtype=torch.uint8),
    }
    said = {ROWS: rows, LEFT_OUT: left_out, DIGEST: sha256_of(dict(sorted(tensors.items())))}
    # One entry: of several, safetensors writes the order as it comes, and no two files would be the same.
    write_bytes(path, save(tensors, {HELD: json.dumps(said, ensure_ascii=False)}))


def _empty(embedder: Embedder) -> dict[str, Tensor]:
    """Return the latents of a shard of which nothing could be read."""
    latent = embedder.autoencoder.latent
    names = ("mean", "log_variance") if latent.variational else ("mean",)
    return {name: torch.empty(0, latent.channels, 1, 1) for name in names}


def _conclude(request: EmbedRequest, record: LatentSetRecord, exporter: Exporter, log: Log) -> None:
    """Write the index, what was measured, the files of the format, and last of all the digests."""
    folder = request.to
    left_out = [layout for n in range(len(record.shards())) for layout in read_shard(shard_path(folder, n)).left_out]
    on, mean, std = statistics(folder, record)
    lines = list(index_lines(folder, record))
    write_rows(folder / INDEX, lines, ("latent", "shard", "position", *Row._fields))
    reasons = tuple(dict.fromkeys(layout.reason for layout in left_out))
    evolve(record, finished=True, latents=len(lines), left_out=reasons, measured_on=on, mean=mean, std=std).save(folder)
    exporter.write_latents(LatentDataset(folder), request.checkpoint, folder)
    write_digests(folder)
    for reason in reasons:
        log(f"left out: {reason}")
    log(f"scaled, those of {on} have mean {mean:.4f} and standard deviation {std:.4f}")
    if abs(std - 1) > OFF:
        log(
            "note: that is not 1, as these are not the layouts whose latents the scaling factor was measured on; "
            "diffusion sees them at this scale"
        )


class Shown:
    """How far it has come: a bar on a terminal, or a line now and then."""

    def __init__(self, total: int, there: int) -> None:
        """Begin with `total` latents to make, beside those that are `there`."""
        self._console = Console(quiet=is_quiet())
        self._total, self._there, self._done = total, there, 0
        self._began = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("embedding"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total + there, completed=there, speed="")

    def __enter__(self) -> Shown:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, count: int) -> None:
        """Show that so many more are done."""
        self._done += count
        now = time.monotonic()
        speed = self._done / max(now - self._began, 1e-9)
        self._bar.update(self._task, advance=count, speed=f"{speed:.0f} images/s")
        if not (self._console.is_terminal or self._console.quiet) and now - self._said >= SAID_SECONDS:
            self._said = now
            left = format_duration((self._total - self._done) / speed)
            place = f"{self._there + self._done:,} of {self._there + self._total:,}"
            print(f"embedding {place}  {speed:.0f} images/s  {left} left", flush=True)
