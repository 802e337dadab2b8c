"""The manifest in a checkpoint, as one that can be opened again, on its own layouts or on others."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import tomli
import tomlkit
from attrs import evolve

from imginav.errors import UserError
from imginav.manifest.loading import load
from imginav.manifest.resolved import AT_TRIAL_SCALE, ResolvedManifest
from imginav.plugin.checkpoint import Checkpoint
from imginav.plugin.registry import Registry

KEPT_OF_DATA = ("image_size", "crop")
"""What still holds where other layouts are taken; the crop says how many whole ones fit into memory."""

KEPT_OF_LAYOUTS = ("palette",)
"""The same where they were listed, too: what the decoder's classes are."""


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

    `data` is a list of other layouts, `settings` are those of `--set`. Of the site file in the working folder, what
    mattered is in the checkpoint; one that is named counts. Raises UserError where it does not fit what is installed.
    """
    text = checkpoint.manifest
    if data is not None:
        tables = tomli.loads(text)
        kept_keys = KEPT_OF_DATA + (KEPT_OF_LAYOUTS if tables["data"]["type"] == "layouts" else ())
        kept = {key: value for key, value in tables["data"].items() if key in kept_keys}
        tables["data"] = {"type": "layouts", "manifest": str(data), **kept}
        text = tomlkit.dumps(tables)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / f"{path.stem}.toml"
        written.write_text(text)
        try:
            resolved = load(written, registry, site=site, settings=settings, use_site=False)
        except UserError as error:
            raise UserError(str(error).replace(str(written), str(path))) from None
        origins = {
            key: checkpoint.origins.get(key, str(path)) if origin == str(written) else origin
            for key, origin in resolved.origins.items()
        }
    if data is not None:
        origins |= {"data.type": f"--data {data}", "data.manifest": f"--data {data}"}
    trial = AT_TRIAL_SCALE in checkpoint.manifest.partition("\n")[0]
    return evolve(resolved, source=path, origins=origins, trial=trial)
