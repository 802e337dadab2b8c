"""`imginav pairs`: layouts with conditioning images and captions, as trainers of diffusers take them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from PIL import Image

from imginav.data.batches import rgb_of
from imginav.data.loader import everything, split_as
from imginav.errors import UserError
from imginav.files import write_error, write_text
from imginav.plugin.components import LayoutSource, Sample
from imginav.plugin.data_spec import DataSpec
from imginav.plugin.registry import Registry
from imginav.terminal import show_progress
from imginav_handoff.folder_beside import folder_beside, is_taken, put
from imginav_handoff.sources import resolve_source

Log = Callable[[str], None]

METADATA = "metadata.jsonl"

IMAGES, CONDITIONS = "images", "conditions"

PARTS = ("train", "validation")


@frozen(kw_only=True)
class PairsRequest:
    """Which layouts are written, what of them is their condition, and where to."""

    model: Path  # a checkpoint or an export: the layouts are those that it was trained and judged on
    to: Path
    condition: tuple[str, ...] = ("wall",)  # classes that conditioning images show; empty: there are none
    data: Path | None = None  # a list of other layouts, all of which are in `train`
    limit: int | None = None  # layouts of each part, the first ones; None: all
    site: Path | None = None
    settings: tuple[str, ...] = ()


def write_pairs(request: PairsRequest, registry: Registry, log: Log = print) -> None:
    """Write layouts, conditioning images and captions as an image folder, whole or not at all.

    Raises UserError where the place is taken, the layouts have no such classes, or one cannot be read.
    """
    if is_taken(request.to):
        raise UserError(f"--out {request.to}: is there already; name another folder")
    manifest = resolve_source(
        request.model, registry, data=request.data, site=request.site, settings=request.settings
    ).manifest
    source = manifest.data.open()
    shown = _class_numbers(request.condition, source.spec)
    split = everything(source) if request.data is not None else split_as(source, manifest.train)
    parts = (split.train, () if request.data is not None else split.validation)
    log(f"layouts: {source.describe()}")
    with folder_beside(request.to, "--out") as folder:
        for name, indices in zip(PARTS, parts, strict=True):
            chosen = indices[: request.limit]
            left_out = _write_part(folder / name, source, chosen, shown, skips=manifest.data.on_bad == "skip")
            for reason in left_out:
                log(f"left out: {reason}")
            if chosen:
                log(f"  {name}  {len(chosen) - len(left_out):,} layouts")
        put(folder, request.to)
    conditions = f"conditioning images of {' and '.join(request.condition)}, and " if request.condition else ""
    log(f"{request.to}: layouts with {conditions}captions")


def _class_numbers(names: Sequence[str], spec: DataSpec) -> list[int]:
    if names and "segmentation" not in spec.targets:
        raise UserError(
            "the layouts have no classes (data.palette = false), so that no part of them can be a condition"
        )
    for name in names:
        if name not in spec.palette.names:
            raise UserError(f"--condition {name}: the layouts have no such class, but {', '.join(spec.palette.names)}")
    return [spec.palette.names.index(name) for name in names]


def _write_part(
    folder: Path, source: LayoutSource, indices: Sequence[int], shown: Sequence[int], *, skips: bool
) -> list[str]:
    """Write the layouts of a part, and return why some were left out."""
    if not indices:
        return []
    left_out: list[str] = []
    try:
        for name in (IMAGES, CONDITIONS) if shown else (IMAGES,):
            (folder / name).mkdir(parents=True)
        lines = []
        for index, sample in _read(source, indices, left_out, skips=skips):
            row = {"image_file_name": f"{IMAGES}/{index:06}.png", "text": caption(sample, source.spec)}
            Image.fromarray(rgb_of(sample, source.spec.palette)).save(folder / row["image_file_name"])
            if shown:
                row["conditioning_image_file_name"] = f"{CONDITIONS}/{index:06}.png"
                condition = Image.fromarray(condition_image(sample["segmentation"], shown))
                condition.save(folder / row["conditioning_image_file_name"])
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    except OSError as error:
        raise write_error(folder, error) from error
    write_text(folder / METADATA, "".join(lines))
    return left_out


def _read(
    source: LayoutSource, indices: Sequence[int], left_out: list[str], *, skips: bool
) -> Iterator[tuple[int, Sample]]:
    for index in show_progress(indices, "writing layouts", len(indices)):
        try:
            sample = source.read(index)
        except UserError as error:
            if not skips:
                raise
            left_out.append(str(error))
            continue
        yield index, sample


def condition_image(classes: NDArray[np.uint8], shown: Sequence[int]) -> NDArray[np.uint8]:
    """Return a conditioning image (H, W, 3) of class indices (H, W): white where one of the `shown` is, else black."""
    white = np.where(np.isin(classes, shown), np.uint8(255), np.uint8(0))
    return np.repeat(white[..., None], 3, axis=2)


def caption(sample: Sample, spec: DataSpec) -> str:
    """Return what a layout is called by its type, such as "a room"."""
    label = int(sample["label"]) if "label" in sample else len(spec.labels)
    return f"a {spec.labels[label]}" if label < len(spec.labels) else "a layout"
