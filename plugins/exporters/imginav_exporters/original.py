"""A checkpoint and latents for the original project, github.com/Hagaio21/ImgiNav, whose network `conv` is."""

from __future__ import annotations

import ast
import io
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import frozen
from torch import Tensor, nn

from imginav import Exporter, TrainedAutoencoder, UserError
from imginav.plugin import write_bytes, write_text
from imginav_exporters.original_conv import HEAD, is_renamable, own_weights, renamed_weights, their_config
from imginav_exporters.original_latents import write_config, write_files

if TYPE_CHECKING:
    from imginav_handoff.exporter import EmbeddedLatents
    from imginav_handoff.latent_space import LatentSpace

CHECKPOINT, ADAPTER = "autoencoder.pt", "imginav_original.py"

OWN = "imginav"
"""The key of a checkpoint, and of an encoder's or decoder's config, that says what the network is built from."""

REFUSAL = (
    "(this is a network of imginav, which models/encoder.py and models/decoder.py cannot build; import "
    f"{ADAPTER} of the checkpoint's folder first, or start the script by it: python FOLDER/{ADAPTER} SCRIPT ARGUMENTS)"
)
"""Stands where the original looks up an activation of torch by its name: it finds none, stops, and shows this."""


NEEDS_IMGINAV = "imginav must be installed, with the plugins that the network is made of."

NEEDS_NOTHING = "It brings the network with it; imginav need not be installed."

BUILD = '''
def build_network(architecture: dict[str, Any]) -> Any:
    """Return the network of this file, without its weights; raises ValueError where a config describes another one."""
    if json.dumps(architecture, sort_keys=True) != ARCHITECTURE:
        raise ValueError(f"{Path(__file__).name} is of another autoencoder than the checkpoint; take the one beside it")
    return Autoencoder()
'''
"""In an adapter that brings its network with it."""


@frozen(kw_only=True)
class OriginalExporter(Exporter):
    """A checkpoint, and latents in a file each, for the diffusion training of the original project."""

    scaling_note: ClassVar[str] = (
        "The checkpoint scales by itself and does not shift, as the original code has none: its scale_factor is 1.0, "
        "and its diffusion training takes these latents as they are."
    )

    def write(self, trained: TrainedAutoencoder, folder: Path) -> None:
        architecture = json.loads(json.dumps(trained.architecture.table()))
        if renamable := is_renamable(architecture):
            config = their_config(trained.autoencoder.state_dict(), variational=trained.latent.variational)
            weights = renamed_weights(trained)
        else:
            config = _adapter_config(trained, architecture)
            source, buffers = adapter_source(trained, architecture)
            weights = _for_adapter({**trained.autoencoder.state_dict(), **buffers})
            write_text(folder / ADAPTER, source)
        _save(folder / CHECKPOINT, {"state_dict": weights, "config": config, OWN: architecture})
        place = trained.destination or folder.absolute()
        write_config(folder, trained.latent, place / CHECKPOINT, None if renamable else place / ADAPTER)

    def open(self, folder: Path, latent: LatentSpace) -> tuple[nn.Module, nn.Module]:
        from imginav.plugin import installed
        from imginav_handoff.architecture import Architecture
        from imginav_handoff.pretrained import ScaledDecoder, ScaledEncoder, with_weights

        path = folder / CHECKPOINT
        architecture, weights = _load(path)
        renamed = is_renamable(architecture)
        if renamed:  # it has no weights of other heads
            heads = {HEAD: architecture["decoder"]["heads"][HEAD]}
            architecture = {**architecture, "decoder": {**architecture["decoder"], "heads": heads}}
        model = Architecture.of(architecture, str(path)).build(installed(), str(path))
        try:
            own = model.state_dict()
            by_name = own_weights(weights, own, variational=latent.variational) if renamed else _of_adapter(weights)
            weights = {name: by_name[name] for name in own}  # without the buffers that an adapter needs
        except KeyError as error:
            raise UserError(f"{path}: has no weights {error}; export it again") from None
        model = with_weights(model, weights, str(path))
        if renamed:
            return UnshiftedEncoder(model, latent), UnshiftedDecoder(model, latent)
        return ScaledEncoder(model, latent), ScaledDecoder(model, latent)

    def given(self, latent: LatentSpace) -> LatentSpace:
        return latent.left_with(shift_factor=latent.shift_factor * latent.scaling_factor)

    def how_to_load(self, folder: str) -> str:
        return (
            "import importlib.util  # all of it in the root of the original code\n"
            "import sys\n\n"
            f'sys.path.insert(0, "{folder}")\n'
            f'if importlib.util.find_spec("{Path(ADAPTER).stem}"):  # there for all networks but conv\n'
            f"    import {Path(ADAPTER).stem}\n\n"
            "from models.autoencoder import Autoencoder\n\n"
            f'autoencoder = Autoencoder.load_checkpoint("{folder}/{CHECKPOINT}").eval()\n'
            "encoded = autoencoder.encode(images)  # (N, 3, H, W) in [-1, 1]\n"
            'latents = encoded["latent"] if "latent" in encoded else encoded["mu"]  # scaled: scale_factor is 1.0\n'
            'images = autoencoder.decode(latents)["rgb"]\n'
        )

    def check_latents(self, flips: str) -> None:
        if flips != "none":
            raise UserError(
                f"--flips {flips}: the original's list of latents has no place for flips, and its split would validate "
                "on mirrored layouts of those that it trains on; leave it out"
            )

    def write_latents(self, latents: EmbeddedLatents, source: Path, folder: Path) -> None:
        write_files(latents, folder)
        checkpoint, adapter = source.absolute() / CHECKPOINT, source.absolute() / ADAPTER
        write_config(
            folder,
            latents.latent,
            checkpoint if checkpoint.is_file() else None,
            adapter if adapter.is_file() else None,
            latents=folder,
        )


class UnshiftedEncoder(nn.Module):
    """Images to scaled latents, by an encoder that scales by itself and does not shift."""

    def __init__(self, model: Any, latent: LatentSpace) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.latent = latent

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        from imginav.model.autoencoder import moments

        mean, log_variance = moments(self.encoder(images), variational=self.latent.variational)
        mean = mean - self.latent.shift_factor * self.latent.scaling_factor
        return (mean,) if log_variance is None else (mean, log_variance)


class UnshiftedDecoder(nn.Module):
    """Scaled latents to images, by a decoder that takes them without the shift."""

    def __init__(self, model: Any, latent: LatentSpace) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.latent = latent

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents + self.latent.shift_factor * self.latent.scaling_factor)["rgb"]
        return images


def adapter_source(trained: TrainedAutoencoder, architecture: dict[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """Return the file beside a checkpoint by which the original code builds its network, and the buffers it loads.

    The file brings the network with it. Where that cannot be traced, it asks imginav to build it, with its buffers.
    """
    from imginav_handoff.network_source import CannotTraceError, network_source

    source = Path(__file__).with_name("original_adapter.py").read_text(encoding="utf-8")
    try:
        network = network_source(trained.autoencoder)
    except CannotTraceError:
        return source, {}
    (build,) = (node for node in ast.parse(source).body if getattr(node, "name", "") == "build_network")
    lines = source.split("\n")
    described = f"ARCHITECTURE = {json.dumps(architecture, sort_keys=True)!r}\n"
    lines[build.lineno - 1 : build.end_lineno] = [network, described, BUILD.strip()]
    return "\n".join(lines).replace(NEEDS_IMGINAV, NEEDS_NOTHING), dict(trained.autoencoder.named_buffers())


def _adapter_config(trained: TrainedAutoencoder, architecture: dict[str, Any]) -> dict[str, Any]:
    latent = trained.latent
    common = {
        OWN: architecture,
        "scaling_factor": latent.scaling_factor,
        "latent_channels": latent.channels,
        "activation": REFUSAL,
    }
    steps = latent.downsampling_factor.bit_length() - 1
    return {
        "encoder": {**common, "downsampling_steps": steps, "variational": latent.variational},
        "decoder": {**common, "upsampling_steps": steps},
        "activation": REFUSAL,  # for Encoder.load_checkpoint and Decoder.load_checkpoint, which take any weights
    }


def _for_adapter(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = (name.split(".", 1) for name in weights)
    return {f"{part}.network.{rest}": weights[f"{part}.{rest}"] for part, rest in parts}


def _of_adapter(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace(".network.", ".", 1): tensor for name, tensor in weights.items()}


def _save(path: Path, payload: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    write_bytes(path, buffer.getbuffer())


def _load(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a checkpoint says of its network, and its weights; nothing in it is executed."""
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
        return payload[OWN], payload["state_dict"]
    except (OSError, RuntimeError, LookupError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: cannot be loaded ({reason}); export it again") from None
