"""A loss in the feature space of an ImageNet network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor, nn

from imginav import Loss, UserError
from imginav.components import LossFunction
from imginav_losses.pixels import of_one_shape

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1]; the normalisation that the network was trained with."""

WEIGHTS_FILE = "vgg16-397923af.pth"
"""The name under which torch.hub keeps torchvision's VGG16 (IMAGENET1K_V1)."""

CHANNELS = (64, 64, 128, 128, 256, 256, 256)
"""Output channels of conv1_1 to conv3_3."""

LAYERS = {"relu1_2": 3, "relu2_2": 8, "relu3_3": 15}
"""The index of each layer in torchvision's `features`."""


@frozen(kw_only=True)
class Perceptual(Loss):
    """Mean squared distance of VGG16 features of two images (N, 3, H, W) in [-1, 1].

    Johnson et al., "Perceptual Losses for Real-Time Style Transfer", 2016, equation 2.
    """

    layers: tuple[Literal["relu1_2", "relu2_2", "relu3_3"], ...] = ("relu3_3",)  # their distances are averaged
    weights: Path | None = field(default=None)  # a file in torchvision's layout; none: torch.hub's cache

    def __attrs_post_init__(self) -> None:
        if not self.layers:
            raise ValueError("expected at least one layer, found none")

    def build(self) -> LossFunction:
        return PerceptualModule(self, self.weights or _hub_cache() / WEIGHTS_FILE)


class PerceptualModule(nn.Module):
    """VGG16 up to the deepest layer that is asked for, frozen and in eval mode."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Perceptual, weights: Path) -> None:
        super().__init__()
        self._config = config
        self._taken = {LAYERS[layer] for layer in config.layers}
        self.features: nn.Sequential = nn.Sequential(*_vgg16_layers()[: max(self._taken) + 1])
        _load(self.features, weights)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        output, target = of_one_shape(self._config, outputs, batch)
        distances = [F.mse_loss(a, b) for a, b in zip(self._features(output), self._features(target), strict=True)]
        return torch.stack(distances).mean()

    def _features(self, images: Tensor) -> list[Tensor]:
        features = ((images + 1) / 2 - self.mean) / self.std
        taken = []
        for index, layer in enumerate(self.features):
            features = layer(features)
            if index in self._taken:
                taken.append(features)
        return taken


def _vgg16_layers() -> list[nn.Module]:
    """Return torchvision's `features` up to relu3_3, at the same indices."""
    layers: list[nn.Module] = []
    before = 3
    for channels in CHANNELS:
        if channels != before and before != 3:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
        before = channels
    return layers


def _hub_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _remedy() -> str:
    return (
        f"download VGG16's weights in torchvision's layout ({WEIGHTS_FILE}) and name the file as the loss's "
        f"`weights`, or put it into {_hub_cache()}"
    )


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"the perceptual loss needs {path}, which does not exist; {_remedy()}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not what it should be
        raise UserError(f"the perceptual loss cannot read {path} ({type(error).__name__}); {_remedy()}") from error
    if not isinstance(state, dict):
        raise UserError(f"the perceptual loss found no state dictionary in {path}; {_remedy()}")
    return state


def _load(features: nn.Sequential, path: Path) -> None:
    """Fill the layers from a weights file; raises UserError where it is missing or not VGG16's."""
    state = _read_weights(path)
    try:
        features.load_state_dict({key: state[f"features.{key}"] for key in features.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"the perceptual loss's weights {path} are not VGG16's: "
            f"{type(error).__name__} {' '.join(str(error).split())[:200]}; {_remedy()}"
        ) from error
