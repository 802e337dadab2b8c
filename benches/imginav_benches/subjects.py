"""Whose speed is measured: the autoencoders of a phase's manifest or of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from attrs import evolve, field, frozen
from torch import Tensor

from imginav import UserError
from imginav.manifest.loading import load_phase
from imginav.manifest.resolved import ResolvedManifest
from imginav.manifest.tables import Manifest
from imginav.model.autoencoder import Autoencoder, build_autoencoder
from imginav.plugin.checkpoint import load_checkpoint
from imginav.plugin.registry import installed
from imginav.seeds import Seeds
from imginav.training.device import Device
from imginav_evaluation.checkpoint_manifest import resolve

PHASES = Path(__file__).parents[2] / "phases"

FINAL = PHASES / "1_5.toml"
"""What is measured where nothing else is named."""

ORIGINAL = PHASES / "baseline" / "1_5_original.toml"
"""What the default took the place of."""


@frozen(kw_only=True)
class Subject:
    """An autoencoder that can be built as often as it is measured."""

    name: str  # what the phase calls it, such as L3; several names where they are the same network
    manifest: Manifest
    weights: Mapping[str, Tensor] | None = field(default=None, eq=False)  # none: as they are initialised

    @property
    def parts(self) -> tuple[object, object]:
        """The encoder and the decoder with its RGB head alone: what encodes and decodes for a diffusion model."""
        return self.manifest.encoder, self._decoder(rgb_only=True)

    @property
    def factor(self) -> int:
        """Pixels of the image per cell of the latent, along each side."""
        return self.manifest.encoder.downsampling_factor

    def latent(self, size: int) -> tuple[int, int, int]:
        """Return height, width and channels of the latent of an image of `size` pixels."""
        return size // self.factor, size // self.factor, self.manifest.encoder.latent_channels

    def build(self, device: Device, *, rgb_only: bool) -> Autoencoder:
        """Return it on a device, ready to encode and decode; with `rgb_only`, its decoder has no other head."""
        model = self._initialised(rgb_only=rgb_only)
        if self.weights is not None:
            wanted = model.state_dict()
            model.load_state_dict({name: tensor for name, tensor in self.weights.items() if name in wanted})
        device.place(model)
        return model.eval()

    def check(self) -> Subject:
        """Return it, or raise UserError where it cannot be built; nothing is computed."""
        with torch.device("meta"):
            self._initialised(rgb_only=True)
        return self

    def _initialised(self, *, rgb_only: bool) -> Autoencoder:
        spec = self.manifest.data.open().spec
        return build_autoencoder(self.manifest.encoder, self._decoder(rgb_only=rgb_only), spec, Seeds(0))

    def _decoder(self, *, rgb_only: bool) -> object:
        decoder = self.manifest.decoder
        if not rgb_only:
            return decoder
        images = {name: head for name, head in decoder.heads.items() if "rgb" in head.outputs(name)}
        if not images:
            raise UserError(f"{self.name} has no output rgb, so there is no image to decode; name another manifest")
        return evolve(decoder, heads=images)


def chosen(manifest: Path | None, checkpoint: Path | None) -> list[Subject]:
    """Return the experiments of a manifest, or what a checkpoint holds.

    Raises UserError where it cannot be read or built.
    """
    subjects = _of_phase(manifest or FINAL) if checkpoint is None else [_of_checkpoint(checkpoint)]
    return [subject.check() for subject in subjects]


def arms() -> list[Subject]:
    """Return the experiments of the phases that choose the latent's size, 1.1 and 1.2."""
    return [subject for name in ("1_1.toml", "1_2.toml") for subject in _of_phase(PHASES / name)]


def same_network_once(subjects: Iterable[Subject]) -> list[Subject]:
    """Return subjects without those that encode and decode RGB by the same network, under all of their names."""
    kept: dict[str, Subject] = {}
    for subject in subjects:
        key = repr(subject.parts)
        earlier = kept.get(key)
        kept[key] = evolve(earlier, name=f"{earlier.name}, {subject.name}") if earlier else subject
    return list(kept.values())


def _of_phase(path: Path) -> list[Subject]:
    # A site's layouts and machine change nothing that is measured here, and may not be at hand.
    phase = load_phase(path, installed(), scale="full", use_site=False)
    return [Subject(name=_name(experiment), manifest=experiment.manifest) for experiment in phase.experiments]


def _of_checkpoint(path: Path) -> Subject:
    checkpoint = load_checkpoint(path)
    resolved = resolve(path, checkpoint, installed())
    return Subject(name=_name(resolved), manifest=resolved.manifest, weights=checkpoint.model)


def _name(resolved: ResolvedManifest) -> str:
    phase = resolved.manifest.phase
    return phase.id if resolved.name == phase.experiment else resolved.name
