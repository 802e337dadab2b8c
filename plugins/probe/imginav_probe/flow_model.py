"""The network of the flow probe: a small diffusion transformer with the same tokens whatever the latent's shape."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TOKEN_PIXELS = 16
"""Side of the square of pixels that a token stands for, up to `MOST_TOKENS` of them along a side."""

MOST_TOKENS = 32
"""Upper bound on the tokens along each side: those of 512 pixels."""

HEAD_WIDTH = 64
"""Width of an attention head."""

FREQUENCIES = 64
"""Number of frequencies, each as sine and cosine, that a time is embedded in."""


def tokens_along_side(image_size: int) -> int:
    """Return the number of tokens along each side for images of this size; raises ValueError if it is not whole."""
    # A power of two, as the pixels of a latent's cell are: one of the two always divides the other.
    pixels = TOKEN_PIXELS << max(0, math.ceil(math.log2(image_size / (TOKEN_PIXELS * MOST_TOKENS))))
    if image_size % pixels:
        raise ValueError(f"expected a side that is a multiple of {pixels} pixels, found {image_size}")
    return image_size // pixels


class Patches(nn.Module):
    """From latents (N, C, s, s) to tokens (N, t·t, width).

    Where the latent has more cells than tokens, each token sees a square of cells; where it has fewer, each cell gives
    a square of tokens.
    """

    def __init__(self, channels: int, side: int, tokens: int, width: int) -> None:
        super().__init__()
        self.cells, self.split = max(1, side // tokens), max(1, tokens // side)
        self.project = nn.Linear(channels * self.cells**2, width * self.split**2)

    def forward(self, latents: Tensor) -> Tensor:
        cells = F.pixel_unshuffle(latents, self.cells) if self.cells > 1 else latents
        tokens = self.project(cells.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return F.pixel_shuffle(tokens, self.split).flatten(2).transpose(1, 2)


class Unpatches(nn.Module):
    """From tokens (N, t·t, width) back to latents (N, C, s, s)."""

    def __init__(self, channels: int, side: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.cells, self.split = max(1, side // tokens), max(1, tokens // side)
        self.project = nn.Linear(width * self.split**2, channels * self.cells**2)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        grid = tokens.transpose(1, 2).reshape(len(tokens), -1, self.tokens, self.tokens)
        cells = F.pixel_unshuffle(grid, self.split) if self.split > 1 else grid
        latents = self.project(cells.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return F.pixel_shuffle(latents, self.cells)


class Block(nn.Module):
    """Attention and a multilayer perceptron, each scaled, shifted and gated by the time (adaLN-Zero, DiT, 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor, time: Tensor) -> Tensor:
        shift, scale, gate, shift2, scale2, gate2 = self.modulate(time)[:, None].chunk(6, dim=-1)
        attended = self._attend(_norm(tokens) * (1 + scale) + shift)
        after: Tensor = tokens + gate * attended
        widened = F.relu(self.widen(_norm(after) * (1 + scale2) + shift2)).square()
        return torch.addcmul(after, gate2, self.narrow(widened))

    def _attend(self, tokens: Tensor) -> Tensor:
        shape = *tokens.shape[:2], 3, self.heads, tokens.shape[2] // self.heads
        q, k, v = self.qkv(tokens).view(shape).permute(2, 0, 3, 1, 4)
        # Queries and keys of unit size keep the attention of a short training from saturating (ViT-22B).
        q, k = _norm(q), _norm(k)
        if tokens.device.type == "cpu":  # where the fused kernel takes four times as long to go backward
            attended = (q @ k.transpose(-1, -2) * k.shape[-1] ** -0.5).softmax(dim=-1) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        merged: Tensor = self.merge(attended.transpose(1, 2).flatten(2))
        return merged


class FlowTransformer(nn.Module):
    """Predicts the velocity of a rectified flow: from noisy latents (N, C, s, s) and times (N) to (N, C, s, s).

    With a `condition` it also takes images (N, condition, H, W), which are added to the tokens patch by patch.
    """

    positions: Tensor  # (t·t, width)

    def __init__(
        self, channels: int, side: int, image_size: int, *, width: int, depth: int, condition: int = 0
    ) -> None:
        super().__init__()
        tokens = tokens_along_side(image_size)
        self.enter = Patches(channels, side, tokens, width)
        self.condition = nn.Linear(condition * (image_size // tokens) ** 2, width) if condition else None
        self._patch = image_size // tokens
        layers = nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        self.embed_time = nn.Sequential(*layers)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.modulate = nn.Linear(width, 2 * width)
        self.leave = Unpatches(channels, side, tokens, width)
        self.register_buffer("positions", _positions(tokens, width), persistent=False)

    def forward(self, latents: Tensor, times: Tensor, condition: Tensor | None = None) -> Tensor:
        tokens = self.enter(latents) + self.positions
        if self.condition is not None and condition is not None:
            patches = F.pixel_unshuffle(condition, self._patch)
            tokens = tokens + self.condition(patches.flatten(2).transpose(1, 2))
        time = self.embed_time(_waves(times))
        for block in self.blocks:
            tokens = block(tokens, time)
        shift, scale = self.modulate(time)[:, None].chunk(2, dim=-1)
        velocity: Tensor = self.leave(_norm(tokens) * (1 + scale) + shift)
        return velocity


def _norm(values: Tensor) -> Tensor:
    return F.layer_norm(values, values.shape[-1:])


def _waves(times: Tensor) -> Tensor:
    """Return sines and cosines (N, 2·FREQUENCIES) of times (N) from 0 to 1."""
    frequencies = torch.exp(torch.linspace(0.0, math.log(1000.0), FREQUENCIES, device=times.device))
    angles = times[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _positions(tokens: int, width: int) -> Tensor:
    """Return sines and cosines (t·t, width) of each token's row and column."""
    frequencies = torch.exp(torch.linspace(0.0, -math.log(100.0), width // 4))
    angles = torch.arange(tokens)[:, None] * frequencies
    along = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = along[:, None].expand(-1, tokens, -1), along[None].expand(tokens, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)
