"""What can be embedded: a checkpoint, or a folder that `imginav export` wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import frozen
from torch import Tensor, nn

from imginav.errors import UserError
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.checkpoint import Checkpoint, load_checkpoint, sha256_of
from imginav.plugin.registry import Registry
from imginav.runs.evaluation_result import load_evaluation
from imginav.runs.run_folder import EVALUATION, MANIFEST
from imginav_evaluation.checkpoint_manifest import resolve
from imginav_handoff.export_folder import open_export
from imginav_handoff.latent_space import LatentSpace, latent_space_of
from imginav_handoff.pretrained import Pretrained, architecture_of, with_weights
from imginav_handoff.whole_evaluation import evaluation_over_training

Log = Callable[[str], None]


@frozen(kw_only=True)
class LatentSource:
    """An autoencoder whose latents are wanted."""

    module: nn.Module  # to be placed on the device
    posterior: Callable[[Tensor], tuple[Tensor, Tensor | None]]  # images to mean and log-variance, unscaled
    latent: LatentSpace


def resolve_source(
    path: Path, registry: Registry, *, data: Path | None = None, site: Path | None = None, settings: Sequence[str] = ()
) -> ResolvedManifest:
    """Return the manifest of a checkpoint or an export, with what is asked for over it; raises as `resolve` does."""
    checkpoint = _checkpoint_of_export(path) if path.is_dir() else load_checkpoint(path)
    return resolve(path, checkpoint, registry, data=data, site=site, settings=settings)


def open_source(
    path: Path,
    registry: Registry,
    *,
    site: Path | None = None,
    settings: Sequence[str] = (),
    log: Log = print,
) -> LatentSource:
    """Return the autoencoder of a checkpoint or an export.

    The scaling factor of a checkpoint is that of its evaluation over the whole training split, which is made where
    there is none. Raises UserError where it cannot be loaded.
    """
    if path.is_dir():
        export = open_export(path, registry)
        encoder, decoder = export.exporter.open(path, export.latent)
        exported = Pretrained(encoder, decoder, export.latent)
        return LatentSource(module=exported, posterior=_unscaled(exported), latent=export.latent)
    checkpoint = load_checkpoint(path)
    evaluation = evaluation_over_training(path, registry, site=site, settings=settings, log=log)
    architecture = architecture_of(path, checkpoint, registry)
    model = with_weights(architecture.build(registry, str(path)), checkpoint.model, str(path))
    latent = latent_space_of(evaluation, architecture.spec, variational=model.variational)
    return LatentSource(module=model, posterior=model.posterior, latent=latent)


def weights_of(path: Path, registry: Registry) -> str:
    """Return the SHA-256 of the weights of a checkpoint or an export, as `sha256_of` has it."""
    return (
        open_export(path, registry).record.weights_sha256 if path.is_dir() else sha256_of(load_checkpoint(path).model)
    )


def _unscaled(pretrained: Pretrained) -> Callable[[Tensor], tuple[Tensor, Tensor | None]]:
    latent = pretrained.latent

    def posterior(images: Tensor) -> tuple[Tensor, Tensor | None]:
        mean, log_variance = pretrained.distribution(images)
        if log_variance is not None:
            log_variance = log_variance - latent.scaled_log_variance(log_variance.new_zeros(()))
        return latent.unscaled(mean), log_variance

    return posterior


def _checkpoint_of_export(folder: Path) -> Checkpoint:
    """Return what an export says of the checkpoint that it was made of, without the weights."""
    try:
        manifest = (folder / MANIFEST).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder / MANIFEST}: cannot be read: {error.strerror}; export it again") from None
    evaluation = load_evaluation(folder / EVALUATION)
    return Checkpoint(
        model={}, epoch=evaluation.weights_epoch, metrics={}, manifest=manifest, origins={}, trial=evaluation.trial
    )
