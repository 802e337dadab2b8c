"""Features of layouts: those of a small denoising autoencoder that is trained on the data set itself.

Distances between distributions of images need features. Those of networks that were trained on photographs say little
about drawn layouts and would have to be downloaded; a denoising autoencoder of the data set does at least as well
(FDD, arXiv 2403.05352). It depends on the data set and the size of the windows alone, so it is trained once and cached.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imginav.files import write_bytes
from imginav.pixels import to_floats
from imginav.plugin.checkpoint import DAMAGES
from imginav.seeds import Seeds
from imginav.terminal import show_progress
from imginav_evaluation.pictures import Pixels
from imginav_probe.windows import TrueLayouts, Windows

LARGEST_SIDE = 256
"""Windows of more pixels are brought below it by taking every second, third … pixel."""

BOTTLENECK = 16
"""Pixels along each side that a cell of the bottleneck stands for."""

WIDTHS = (64, 96)
"""Channels at an eighth and at a sixteenth of the window's side."""

FEATURES = 64
"""Channels of the bottleneck; a feature vector has their mean and their standard deviation over the window."""


STEPS = 500
BATCH = 64
LEARNING_RATE = 2e-3
WARM_UP_STEPS = 50

VERSION = 1
"""Raised when anything of the features changes, so that those of the cache are not taken for them."""


class Residual(nn.Module):
    """Two convolutions around which the input is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, values: Tensor) -> Tensor:
        return torch.add(values, self.layers(values))


class DenoisingAutoencoder(nn.Module):
    """Rebuilds images (N, 3, H, W) in [-1, 1] from noisy ones; its bottleneck has a sixteenth of their side."""

    def __init__(self) -> None:
        super().__init__()
        first, second = WIDTHS
        self.encoder = nn.Sequential(
            nn.Conv2d(3, first, 8, stride=8),
            Residual(first),
            nn.Conv2d(first, second, 2, stride=2),
            Residual(second),
            nn.Conv2d(second, FEATURES, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(FEATURES, second, 1),
            Residual(second),
            nn.Conv2d(second, 3 * BOTTLENECK**2, 1),
            nn.PixelShuffle(BOTTLENECK),
        )

    def forward(self, images: Tensor) -> Tensor:
        rebuilt: Tensor = self.decoder(self.encoder(images))
        return rebuilt

    def features(self, images: Tensor) -> Tensor:
        """Return feature vectors (N, 2·FEATURES) of images."""
        maps = self.encoder(images).float()
        return torch.cat([maps.mean(dim=(2, 3)), maps.flatten(2).std(dim=2, correction=0)], dim=1)


def brought_down(images: Tensor) -> Tensor:
    """Return images (N, 3, H, W) of at most `LARGEST_SIDE` pixels, of the nearest pixels of larger ones.

    The last row and column are repeated up to a multiple of `BOTTLENECK` pixels.
    """
    every = -(-images.shape[-1] // LARGEST_SIDE)
    smaller = images[..., every // 2 :: every, every // 2 :: every] if every > 1 else images
    missing = -smaller.shape[-1] % BOTTLENECK
    return F.pad(smaller, (0, missing, 0, missing), mode="replicate") if missing else smaller


def feature_network(
    training: TrueLayouts,
    windows: Windows,
    data_sha256: str,
    cache: Path | None,
    autocast: Callable[[], Any],
    device: torch.device,
    unless_stopped: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> DenoisingAutoencoder:
    """Return the network of a data set's windows: that of the cache, or a new one, which is kept there."""
    key = f"{VERSION}/{data_sha256}/{windows.image_size}/{windows.side}/{windows.step}"
    path = cache and cache / f"probe-features-{hashlib.sha256(key.encode()).hexdigest()[:16]}.pt"
    network = path and _load(path, device)
    if not network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(Seeds(0).derive("features", "initialisation"))
            network = DenoisingAutoencoder().to(device)
        _train(network, training, windows, autocast, unless_stopped)
        if path is not None:
            buffer = io.BytesIO()
            torch.save(network.state_dict(), buffer)
            write_bytes(path, buffer.getbuffer())
    network.eval()
    return network


def _load(path: Path, device: torch.device) -> DenoisingAutoencoder | None:
    """Return the network of a file; None if there is none, or it is damaged: then it is made anew."""
    network = DenoisingAutoencoder()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except DAMAGES:
        return None
    return network.to(device)


def _train(
    network: nn.Module,
    training: TrueLayouts,
    windows: Windows,
    autocast: Callable[[], Any],
    unless_stopped: Callable[[Iterable[int]], Iterable[int]],
) -> None:
    """Train the network from its start; what it draws is the same for the same data set."""
    seeds, device = Seeds(0), next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    layouts = range(len(training.indices))
    for step in show_progress(unless_stopped(range(STEPS)), "training the features", STEPS):
        places = windows.draw(BATCH, layouts, seeds.generator("features", "windows", step))
        images = brought_down(as_images(training.rgb(places, windows.side))).to(device)
        with autocast():
            loss = denoising_loss(network, images, seeds.generator("features", "noise", step))
        loss.backward()  # type: ignore[no-untyped-call]
        rising = min(1.0, (step + 1) / WARM_UP_STEPS)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rising * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        optimizer.step()
        optimizer.zero_grad()


def as_images(rgb: Pixels) -> Tensor:
    """Return RGB bytes (N, H, W, 3) as images (N, 3, H, W) in [-1, 1]."""
    return to_floats(torch.from_numpy(rgb)).permute(0, 3, 1, 2)  # as it lies in memory, which convolutions like


@torch.no_grad()
def features_of(network: DenoisingAutoencoder, images: Tensor, at_once: int = 128) -> Tensor:
    """Return feature vectors (N, 2·FEATURES) of images (N, 3, H, W) in [-1, 1], on the CPU."""
    device = next(network.parameters()).device
    return torch.cat([network.features(brought_down(part).to(device)).cpu() for part in torch.split(images, at_once)])


def denoising_loss(model: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mean squared error of images that are rebuilt from between none and nine tenths of noise."""
    share = 0.9 * torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return F.mse_loss(model((1 - share) * images + share * noise).float(), images)
