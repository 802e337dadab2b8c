"""The default format: weights as safetensors, together and apart, and what they are built into."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from imginav import Exporter, TrainedAutoencoder, UserError
from imginav.plugin import write_bytes, write_text

if TYPE_CHECKING:
    from torch import Tensor, nn

    from imginav_handoff.exporter import EmbeddedLatents
    from imginav_handoff.latent_space import LatentSpace

CONFIG, WHOLE = "config.json", "autoencoder.safetensors"


@frozen(kw_only=True)
class SafetensorsExporter(Exporter):
    """Encoder and decoder as safetensors, together and apart, with `config.json`; `imginav.load` opens it."""

    def write(self, trained: TrainedAutoencoder, folder: Path) -> None:
        config = {"model_type": "imginav", **trained.architecture.table()}
        write_text(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        weights = trained.autoencoder.state_dict()
        _save(weights, folder / WHOLE)
        for part in ("encoder", "decoder"):
            own = {
                name.removeprefix(f"{part}."): tensor for name, tensor in weights.items() if name.startswith(f"{part}.")
            }
            _save(own, folder / f"{part}.safetensors")

    def write_latents(self, latents: EmbeddedLatents, source: Path, folder: Path) -> None:
        """Do nothing: the shards that `imginav embed` writes for every format are safetensors."""

    def open(self, folder: Path, latent: LatentSpace) -> tuple[nn.Module, nn.Module]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from imginav.plugin.registry import installed
        from imginav_handoff.architecture import Architecture
        from imginav_handoff.pretrained import ScaledDecoder, ScaledEncoder, with_weights

        try:
            config = json.loads((folder / CONFIG).read_text())
            weights = load_file(folder / WHOLE)
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"{folder}: cannot be loaded ({error}); export it again") from None
        where = str(folder / CONFIG)
        model = with_weights(Architecture.of(config, where).build(installed(), where), weights, str(folder / WHOLE))
        return ScaledEncoder(model, latent), ScaledDecoder(model, latent)


def _save(weights: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save

    write_bytes(path, save({name: tensor.contiguous() for name, tensor in weights.items()}, {"format": "pt"}))
