"""The manifest in a checkpoint, as one that can be opened again, on its own layouts or on others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import evolve

from imginav.manifest.loading import load
from imginav.manifest.reading import parse_toml
from imginav.manifest.resolution import resolution_of
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.checkpoint import Checkpoint
from imginav.plugin.registry import Registry

KEPT_OF_DATA = ("image_size", "crop")
"""What still holds where other layouts are taken; the crop says how many whole ones fit into memory."""

KEPT_OF_LAYOUTS = ("palette",)
"""The same where they were image files, too: what the decoder's classes are."""

IMAGE_FILES = ("layouts", "folder")
"""The data sets of image files."""


def resolve(
    path: Path,
    checkpoint: Checkpoint,
    registry: Registry,
    *,
    data: Path | None = None,
    site: Path | None = None,
    settings: Sequence[str] = (),
) -> ResolvedManifest:
    """Return the manifest of the checkpoint that was read from `path`, with what is asked for over it.

    `data` is a list of other layouts, or a folder of them; `settings` are those of `--set`. Of the site file in the
    working folder, what mattered is in the checkpoint; one that is named counts. Raises UserError where it does not fit
    what is installed.
    """
    tables = parse_toml(checkpoint.manifest, str(path))
    trial = checkpoint.trial
    if trial is None:  # a checkpoint of an earlier version
        resolution = resolution_of(checkpoint.manifest, tables)
        trial = resolution is not None and resolution.scale == "trial"
    if data is not None:
        kept_keys = KEPT_OF_DATA + (KEPT_OF_LAYOUTS if tables["data"]["type"] in IMAGE_FILES else ())
        kept = {key: value for key, value in tables["data"].items() if key in kept_keys}
        kind, place = ("folder", "folder") if data.is_dir() else ("layouts", "manifest")
        tables["data"] = {"type": kind, place: str(data), **kept}
    resolved = load(path, registry, site=site, settings=settings, use_site=False, tables=tables)
    origins = {
        key: checkpoint.origins.get(key, origin) if origin == str(path) else origin
        for key, origin in resolved.origins.items()
    }
    if data is not None:
        origins |= {"data.type": f"--data {data}", f"data.{place}": f"--data {data}"}
    return evolve(resolved, origins=origins, trial=trial)
