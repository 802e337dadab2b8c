"""The golden triple, and how far off a computation lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import imginav
from imginav import Pretrained, UserError
from imginav.manifest.resolved import ResolvedManifest
from imginav.plugin.registry import Registry
from imginav_handoff.golden import (
    CROPS,
    DRAWN,
    TOLERANCES,
    WHOLE,
    Triple,
    agreement,
    drawn_rectangles,
    golden_images,
    load_triples,
    make_triples,
    save_triples,
)

MakeCheckpoint = Callable[..., Path]
Resolve = Callable[..., ResolvedManifest]


@pytest.fixture
def pretrained(make_checkpoint: MakeCheckpoint) -> Pretrained:
    return imginav.load(make_checkpoint("machine.precision=fp32"))


@pytest.fixture
def triples(pretrained: Pretrained, resolve: Resolve, registry: Registry) -> dict[str, Triple]:
    images, _ = golden_images(resolve().tables, pretrained.latent.spec, registry, 32, 4)
    return make_triples(pretrained, images)


class Off(nn.Module):
    """Adds something to what a module computes."""

    def __init__(self, module: nn.Module, added: float) -> None:
        super().__init__()
        self.module = module
        self.added = added

    def forward(self, given: Tensor) -> object:
        output = self.module(given)
        return tuple(part + self.added for part in output) if isinstance(output, tuple) else output + self.added


def test_the_input_is_the_first_layout_and_a_batch_of_crops_of_another_shape(
    resolve: Resolve, registry: Registry, pretrained: Pretrained
) -> None:
    resolved = resolve()
    images, name = golden_images(resolved.tables, pretrained.latent.spec, registry, 32, 4)
    assert name == "block 0"
    assert np.array_equal(images[WHOLE][0].numpy(), resolved.manifest.data.open().read(0)["rgb"])
    assert images[CROPS].shape == (3, 8, 16, 3)


def test_without_layouts_it_is_drawn_in_all_colours(
    resolve: Resolve, registry: Registry, pretrained: Pretrained
) -> None:
    tables = {**resolve().tables, "data": {"type": "layouts", "manifest": "gone.csv"}}
    images, name = golden_images(tables, pretrained.latent.spec, registry, 32, 4)
    assert name == DRAWN
    assert {tuple(colour) for colour in images[WHOLE].reshape(-1, 3).tolist()} == {(228, 26, 28), (240, 240, 240)}
    assert np.array_equal(images[WHOLE][0].numpy(), drawn_rectangles(pretrained.latent.spec.palette, 32))


def test_triples_survive_their_file(triples: dict[str, Triple], tmp_path: Path) -> None:
    save_triples(tmp_path / "golden.safetensors", triples)
    read = load_triples(tmp_path / "golden.safetensors")
    for name, triple in triples.items():
        for part in ("images", "latents", "decoded"):
            assert torch.equal(getattr(read[name], part), getattr(triple, part))


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0nothing!"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "golden.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"golden\.safetensors: cannot be read .*; export it again"):
        load_triples(path)


def test_a_file_without_a_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "golden.safetensors"
    save_file({"whole.images": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"cannot be read \('whole\.latents'\)"):
        load_triples(path)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_the_same_weights_agree(pretrained: Pretrained, triples: dict[str, Triple], precision: str) -> None:
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    measured = agreement(pretrained.to(dtype), triples, precision)
    assert measured.fault == ""
    assert measured.latent_error <= TOLERANCES[precision].latent_error
    assert measured.largest_value >= 1
    if precision != "fp32":
        assert measured.latent_error > 1e-5  # it was really computed so


def test_latents_that_are_off_are_a_fault(pretrained: Pretrained, triples: dict[str, Triple]) -> None:
    off = Pretrained(Off(pretrained.encoder, 0.01), pretrained.decoder, pretrained.latent)
    measured = agreement(off, triples, "fp32")
    assert measured.latent_error == pytest.approx(0.01, rel=1e-3)
    assert measured.fault == "latents are 0.01 standard deviations off; 0.005 are allowed"


def test_pixels_that_are_off_are_a_fault(pretrained: Pretrained, triples: dict[str, Triple]) -> None:
    off = Pretrained(pretrained.encoder, Off(pretrained.decoder, 0.1), pretrained.latent)  # 12.75 of 255
    measured = agreement(off, triples, "fp32")
    assert measured.latent_error < 1e-5
    assert measured.pixels_off == 1
    assert measured.fault == "100.00% of the decoded pixels are off; 0.10% are allowed"


class HidesOverflow(nn.Module):
    """Overflows in half precision, and lets nothing of it out, as the likeliest class does."""

    def __init__(self, encoder: nn.Module, factor: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.logits = Times(factor)

    def forward(self, images: Tensor) -> object:
        self.logits(images)
        return self.encoder(images)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": images.half() * self.factor}


@pytest.mark.parametrize(("factor", "value"), [(1e5, "inf"), (math.nan, "nan")])
def test_an_overflow_inside_is_a_fault_whatever_comes_out(
    pretrained: Pretrained, triples: dict[str, Triple], factor: float, value: str
) -> None:
    hidden = Pretrained(HidesOverflow(pretrained.encoder, factor), pretrained.decoder, pretrained.latent)
    measured = agreement(hidden, triples, "fp16")
    assert measured.latent_error < 1e-5
    assert measured.fault == f"encoder.logits gives {value} in float16"
    assert math.isfinite(measured.largest_value)


def test_latents_that_are_not_finite_are_a_fault(pretrained: Pretrained, triples: dict[str, Triple]) -> None:
    off = Pretrained(Off(pretrained.encoder, math.nan), pretrained.decoder, pretrained.latent)
    assert agreement(off, triples, "fp32").fault == "encoder gives nan in float32"
