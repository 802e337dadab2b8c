"""The layers of networks: their parameters, counted by hand, and what they are in their order."""

from __future__ import annotations

from typing import Any

from torch import nn


def conv(in_channels: int, out_channels: int, side: int) -> int:
    """Return the parameters of a convolution, transposed or not: its weights and its biases."""
    return in_channels * out_channels * side**2 + out_channels


def norm(channels: int) -> int:
    """Return the parameters of a GroupNorm: scale and shift of each channel."""
    return 2 * channels


def residual_block(channels: int) -> int:
    """Return the parameters of a residual block: two convolutions and a norm."""
    return 2 * conv(channels, channels, 3) + 2 * channels


def layers(module: nn.Module) -> list[tuple[Any, ...]]:
    """Return the layers in the order in which they run, each with what makes it what it is."""
    described: list[tuple[Any, ...]] = []
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            shape = (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0], layer.padding[0])
            described.append(("conv" if isinstance(layer, nn.Conv2d) else "transposed", *shape))
        elif isinstance(layer, nn.GroupNorm):
            described.append(("norm", layer.num_groups, layer.num_channels))
        elif not list(layer.children()):
            described.append((type(layer).__name__,))
    return described
