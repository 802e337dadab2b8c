"""An autoencoder with something to encode and decode."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from attrs import frozen
from torch import Tensor

from imginav.model.autoencoder import Autoencoder
from imginav.training.device import Device
from imginav_benches.cases import Case
from imginav_benches.subjects import Subject


@frozen
class Coder:
    """An autoencoder under the conditions of a case, with what it encodes and decodes there."""

    model: Autoencoder
    device: Device
    images: Tensor  # (N, 3, H, W) in [-1, 1]
    latents: Tensor  # (N, C, h, w)

    @classmethod
    def of(cls, subject: Subject, case: Case, name: str, *, rgb_only: bool = True) -> Coder:
        """Return the coder of a subject on the device of this name."""
        device = case.open(name)
        height, width, channels = subject.latent(case.size)
        images = torch.rand(case.batch, 3, case.size, case.size, device=device.device).mul(2).sub(1)
        latents = torch.randn(case.batch, channels, height, width, device=device.device)
        placed = (tensor.contiguous(memory_format=device.memory_format) for tensor in (images, latents))
        return cls(subject.build(device, rgb_only=rgb_only), device, *placed)

    def encode(self) -> Tensor:
        return self._computed(lambda: self.model.encode(self.images))

    def decode(self) -> Tensor:
        return self._computed(lambda: self.model.decode(self.latents)["rgb"])

    def compile(self) -> None:
        """Compile both parts; that happens when they are called first."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler warns of says nothing of speed
            torch.compiler.reset()
            self.model.encoder.compile()
            self.model.decoder.compile()

    @torch.no_grad()
    def _computed(self, work: Callable[[], Tensor]) -> Tensor:
        with self.device.autocast():
            result = work()
        self.device.wait()
        return result
