"""The network `conv` by the names that the original project's classes give to the same layers.

The scaling factor is put into the weights: what the encoder's last convolution gives is multiplied, and what the
decoder's first one takes is divided by it. The shift cannot be: that convolution pads latents with zeros, so a bias
would be wrong at the border. The original code has no shift either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from imginav import TrainedAutoencoder

ENCODER_LAYERS, DECODER_LAYERS = 6, 3
"""Layers of one level, activations included."""

HEAD = "rgb"
"""The one head that diffusion decodes by, and that is written."""


def is_renamable(architecture: Mapping[str, Any]) -> bool:
    """Whether the original's classes can build a network, by what `Architecture.table()` says of it."""
    decoder = architecture["decoder"]
    head = decoder.get("heads", {}).get(HEAD)
    kinds = architecture["encoder"]["type"], decoder["type"], head["type"] if isinstance(head, Mapping) else head
    return kinds == ("conv", "conv", "rgb")


def renamed_weights(trained: TrainedAutoencoder) -> dict[str, Tensor]:
    """Return the weights by their names in the original code, with the scaling factor in them."""
    weights = trained.autoencoder.state_dict()
    names = their_names(weights, variational=trained.latent.variational)
    return _scaled({names[name]: weights[name].clone() for name in names}, trained.latent.scaling_factor)


def own_weights(renamed: Mapping[str, Tensor], own: Mapping[str, Tensor], *, variational: bool) -> dict[str, Tensor]:
    """Return renamed weights by the names of a network's own ones; raises KeyError where one is missing.

    The scaling factor stays in them.
    """
    return {name: renamed[theirs] for name, theirs in their_names(own, variational=variational).items()}


def their_config(weights: Mapping[str, Tensor], *, variational: bool) -> dict[str, Any]:
    """Return the config by which the original's classes build a network of such weights, by imginav's names."""
    first, latent = weights["encoder.levels.0.0.weight"], weights["encoder.to_latent.0.weight"]
    steps = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.levels."))
    common = {"latent_channels": latent.shape[0], "norm_groups": 8, "activation": "SiLU"}
    return {
        "encoder": {
            **common,
            "in_channels": 3,
            "base_channels": first.shape[0],
            "downsampling_steps": steps,
            "variational": variational,
        },
        "decoder": {
            **common,
            "base_channels": weights["decoder.first.0.weight"].shape[0] // 2 ** (steps - 1),
            "upsampling_steps": steps,
            "heads": [{"type": "RGBHead", "name": HEAD}],
        },
    }


def their_names(weights: Mapping[str, Any], *, variational: bool) -> dict[str, str]:
    """Return the name in the original code by each name of imginav; weights of other heads are left out."""
    steps = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.levels."))
    latents = ("mu_head", "logvar_head") if variational else ("latent_proj",)
    names = {}
    for name in weights:
        match name.split("."):
            case ["encoder", "levels", level, layer, kind]:
                theirs = f"encoder.feature_extractor.{ENCODER_LAYERS * int(level) + int(layer)}.{kind}"
            case ["encoder", "last", layer, kind]:
                theirs = f"encoder.feature_extractor.{ENCODER_LAYERS * steps + int(layer)}.{kind}"
            case ["encoder", "to_latent", number, kind]:
                theirs = f"encoder.{latents[int(number)]}.{kind}"
            case ["decoder", "first", layer, kind]:
                theirs = f"decoder.shared_decoder.{layer}.{kind}"
            case ["decoder", "levels", level, layer, kind]:
                theirs = f"decoder.shared_decoder.{DECODER_LAYERS * (1 + int(level)) + int(layer)}.{kind}"
            case ["decoder", "heads", head, layer, kind] if head == HEAD:
                theirs = f"decoder.heads.{HEAD}.head.{layer}.{kind}"
            case _:
                continue
        names[name] = theirs
    return names


def _scaled(weights: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    for name in ("encoder.latent_proj", "encoder.mu_head"):
        if f"{name}.weight" in weights:
            weights[f"{name}.weight"] *= factor
            weights[f"{name}.bias"] *= factor
    if "encoder.logvar_head.bias" in weights:
        weights["encoder.logvar_head.bias"] += 2 * math.log(factor)
    weights["decoder.shared_decoder.0.weight"] /= factor
    return weights
