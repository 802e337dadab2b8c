"""From a checkpoint or an export to what a probe looks at."""

from __future__ import annotations

from pathlib import Path

import torch
from attrs import frozen
from torch import Tensor

from imginav.errors import UserError
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.registry import Registry
from imginav.processes.stop_request import StopRequest
from imginav.training.device import open_device
from imginav_handoff.latent_cache import EmbedRequest, embed
from imginav_handoff.latent_set import load_latent_set_record, read_shard, read_tensors, shard_path
from imginav_handoff.pretrained import load
from imginav_handoff.sources import resolve_source
from imginav_probe.probe import Log, ProbeSubject
from imginav_probe.windows import STEP_PIXELS, LatentWindows, TrueLayouts, Windows

LEAST_TRAINING = 2
"""Training layouts, which are halved for the noise floor."""


@frozen(kw_only=True)
class SubjectRequest:
    """Which autoencoder is to be looked at."""

    path: Path  # a checkpoint, or a folder that export wrote
    latents: Path  # the folder to embed into
    site: Path | None = None
    settings: tuple[str, ...] = ()


def open_subject(
    request: SubjectRequest, registry: Registry, stop_request: StopRequest, log: Log = print
) -> ProbeSubject:
    """Embed the layouts that an autoencoder was trained on, and return what a probe looks at.

    Raises UserError where the checkpoint, the export or the layouts cannot be read.
    """
    embedding = EmbedRequest(checkpoint=request.path, to=request.latents, site=request.site, settings=request.settings)
    embed(embedding, registry, stop_request, log=lambda _: None)
    resolved = resolve_source(request.path, registry, site=request.site, settings=request.settings)
    manifest = resolved.manifest
    source = manifest.data.open()
    source.prepare(manifest.machine.cache or None, log)
    record = load_latent_set_record(request.latents)
    (latents, training), (others, validation) = (_read(request.latents, split) for split in ("train", "validation"))
    if len(training) < LEAST_TRAINING or not validation:
        raise UserError(
            f"{request.path}: a probe needs at least {LEAST_TRAINING} training layouts and one of validation, and "
            f"there are {len(training)} and {len(validation)}; take more layouts"
        )
    factor = manifest.encoder.downsampling_factor
    device = open_device(manifest.machine)
    windows = windows_of(resolved)
    pretrained = load(request.path, device=device.device)
    space = pretrained.latent
    standardised = LatentWindows(latents["mean"], latents.get("log_variance"), factor)
    of_validation = LatentWindows(others["mean"], others.get("log_variance"), factor, like=standardised)

    def decoder(values: Tensor) -> Tensor:
        return pretrained.decode(space.scaled(standardised.restored(values))).float()

    return ProbeSubject(
        latents=standardised,
        validation_latents=of_validation,
        decoder=decoder,
        training=TrueLayouts(source, training),
        validation=TrueLayouts(source, validation),
        windows=windows,
        spec=source.spec,
        data_sha256=f"{record.layouts_sha256}/{record.split_sha256}",
        device=device,
        cache=manifest.machine.cache or None,
    )


def windows_of(resolved: ResolvedManifest) -> Windows:
    """Return the squares that a probe looks at: of the size that the autoencoder was trained on."""
    data, factor = resolved.manifest.data, resolved.manifest.encoder.downsampling_factor
    return Windows(image_size=data.image_size, side=data.window, step=max(STEP_PIXELS, factor))


def _read(folder: Path, split: str) -> tuple[dict[str, Tensor], list[int]]:
    """Return the latents of the layouts on one side of the split, by name, and the indices of these layouts."""
    parts: dict[str, list[Tensor]] = {}
    layouts: list[int] = []
    for number in range(len(load_latent_set_record(folder).shards())):
        shard = shard_path(folder, number)
        rows, tensors = read_shard(shard).rows, read_tensors(shard)
        kept = torch.tensor([row.split == split for row in rows], dtype=torch.bool)
        for name in ("mean", "log_variance"):
            if name in tensors:
                parts.setdefault(name, []).append(tensors[name][kept])
        layouts += [row.layout for row in rows if row.split == split]
    return {name: torch.cat(tensors) for name, tensors in parts.items()}, layouts
