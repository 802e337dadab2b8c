"""Encoding and decoding beside the autoencoders that latent diffusion models come with, all with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imginav.manifest.tables import Machine
from imginav.training.device import open_device
from imginav_benches import Subject
from imginav_benches.measuring import Scaled

SIZES = {"cpu": 256, "cuda": 512}
"""Side of the images, by the type of the device: Stable Diffusion's takes half a minute for one of 512 on two cores."""

STABLE_DIFFUSION = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
"""As the models of that name come with it; the other two are so by default (TAESD, and DC-AE f32c32)."""

PEERS = {"AutoencoderTiny": {}, "AutoencoderKL": STABLE_DIFFUSION, "AutoencoderDC": {}}

HEAVY = ("AutoencoderKL", "AutoencoderDC")
"""Take seconds for an image on two cores."""


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> nn.Module:
    if pytestconfig.option.quick and request.param in HEAVY:
        pytest.skip("--quick: takes seconds for each image on two cores")
    diffusers = pytest.importorskip(
        "diffusers", reason="no diffusers here: pip install -c constraints.txt '.[benches]'"
    )
    return getattr(diffusers, request.param)(**PEERS[request.param]).eval()


@pytest.mark.benchmark(group="peers")
@pytest.mark.parametrize("operation", ["encode", "decode"])
def test_beside(
    operation: str,
    peer: nn.Module,
    subject_alone: Subject,
    pytestconfig: pytest.Config,
    benchmark: Any,
    interleaved_briefly: Callable[..., None],
    scaled: Scaled,
) -> None:
    device = open_device(Machine(device=pytestconfig.option.device))
    size = scaled(SIZES[device.device.type])
    model = subject_alone.build(device, rgb_only=True)
    device.place(peer)
    images = torch.rand(1, 3, size, size, device=device.device).mul(2).sub(1)
    images = images.contiguous(memory_format=device.memory_format)

    def computed(work: Callable[[Tensor], object], value: Tensor) -> Callable[[], None]:
        def one_pass() -> None:
            with torch.no_grad(), device.autocast():
                work(value)
            device.wait()

        return one_pass

    with torch.no_grad(), device.autocast():
        latents, peer_latents = model.encode(images), _latents(peer, images)
    if operation == "encode":
        ours, theirs = computed(model.encode, images), computed(lambda value: _latents(peer, value), images)
    else:
        ours, theirs = computed(model.decode, latents), computed(lambda value: peer.decode(value).sample, peer_latents)
    channels, height, width = peer_latents.shape[1:]
    benchmark.extra_info |= {
        "operation": operation,
        "size": size,
        "peer_parameters": sum(parameter.numel() for parameter in peer.parameters()),
        "peer_latent": (height, width, channels),
    }
    interleaved_briefly(ours, theirs, peer=type(peer).__name__)


def _latents(peer: nn.Module, images: Tensor) -> Tensor:
    """Return the latents as a diffusion model takes them; of a variational peer the means."""
    encoded = peer.encode(images)
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mean
    return encoded.latents if hasattr(encoded, "latents") else encoded.latent
