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
from imginav_benches.peers import PEERS, images_of, latents_of

SIZES = {"cpu": 256, "cuda": 512}
"""Side of the images, by the type of the device: Stable Diffusion's takes half a minute for one of 512 on two cores."""

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
        latents, peer_latents = model.encode(images), latents_of(peer, images)
    if operation == "encode":
        ours, theirs = computed(model.encode, images), computed(lambda value: latents_of(peer, value), images)
    else:
        ours, theirs = computed(model.decode, latents), computed(lambda value: images_of(peer, value), peer_latents)
    channels, height, width = peer_latents.shape[1:]
    benchmark.extra_info |= {
        "operation": operation,
        "size": size,
        "peer_parameters": sum(parameter.numel() for parameter in peer.parameters()),
        "peer_latent": (height, width, channels),
    }
    interleaved_briefly(ours, theirs, peer=type(peer).__name__)
