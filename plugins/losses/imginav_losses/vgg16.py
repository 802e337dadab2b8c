"""VGG16's features without torchvision: the layers, and weights from a local file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from imginav import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1]; the normalisation that the network was trained with."""

WEIGHTS_FILE = "vgg16-397923af.pth"
"""The name under which torch.hub keeps torchvision's VGG16 (IMAGENET1K_V1)."""

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of conv1_1 to conv5_3; a maximum over 2×2 pixels stands between two blocks."""

LAYERS = {"relu1_2": 3, "relu2_2": 8, "relu3_3": 15, "relu4_3": 22, "relu5_3": 29}
"""The index of each layer in torchvision's `features`."""


class VGG16Features(nn.Module):
    """VGG16 up to the deepest layer that is asked for, frozen and in eval mode."""

    mean: Tensor
    std: Tensor

    def __init__(self, layers: Collection[str], weights: Path | None, owner: str) -> None:
        """Load the weights, of torch.hub's cache where no file is named; raises UserError where that cannot be.

        `owner` is who needs them, as messages call it.
        """
        super().__init__()
        self._taken = {LAYERS[layer] for layer in layers}
        # Without memory until the weights are there: initial ones would draw from the generator that all code shares.
        with torch.device("meta"):
            self.features: nn.Sequential = nn.Sequential(*_layers()[: max(self._taken) + 1])
        _load(self.features, weights or _hub_cache() / WEIGHTS_FILE, owner)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of images (N, 3, H, W) in [-1, 1], the shallowest layer first."""
        features = ((images + 1) / 2 - self.mean) / self.std
        taken = []
        for index, layer in enumerate(self.features):
            features = layer(features)
            if index in self._taken:
                taken.append(features)
        return taken


def _layers() -> list[nn.Module]:
    """Return torchvision's `features`, at the same indices."""
    layers: list[nn.Module] = []
    before = 3
    for block in BLOCKS:
        for channels in block:
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        layers.append(nn.MaxPool2d(2))
    return layers


def _hub_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _remedy() -> str:
    return (
        f"download VGG16's weights in torchvision's layout ({WEIGHTS_FILE}) and name the file as its `weights`, or put "
        f"it into {_hub_cache()}"
    )


def _read_weights(path: Path, owner: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{owner} needs {path}, which does not exist; {_remedy()}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not what it should be
        raise UserError(f"{owner} cannot read {path} ({type(error).__name__}); {_remedy()}") from error
    if not isinstance(state, dict):
        raise UserError(f"{owner} found no state dictionary in {path}; {_remedy()}")
    return state


def _load(features: nn.Sequential, path: Path, owner: str) -> None:
    """Fill the layers from a weights file; raises UserError where it is missing or not VGG16's."""
    state = _read_weights(path, owner)
    try:
        own = {key: state[f"features.{key}"].float() for key in features.state_dict()}
        features.load_state_dict(own, assign=True)
    except (KeyError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"{path}, which {owner} needs, does not hold VGG16's weights: "
            f"{type(error).__name__} {' '.join(str(error).split())[:200]}; {_remedy()}"
        ) from error
