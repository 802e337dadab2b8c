"""Handing on: what embedding a set takes beside a bare loop, and reading latents beside a file for each of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import imginav
from imginav.plugin.registry import installed
from imginav_benches.measuring import Scaled
from imginav_handoff.latent_cache import EmbedRequest, embed

LAYOUTS, BATCH, LATENTS = 64, 16, 512


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory, scaled: Scaled) -> Path:
    """Draw layouts of 512 px, and write them as PNGs and the list of them."""
    folder = tmp_path_factory.mktemp("layouts")
    source = installed().find("dataset", "procedural")(count=scaled(LAYOUTS), image_size=scaled(512)).open()
    for index in range(len(source)):
        Image.fromarray(source.spec.palette.colour(source.read(index)["segmentation"])).save(folder / f"{index}.png")
    rows = "".join(f"{index}.png,room\n" for index in range(len(source)))
    (folder / "layouts.csv").write_text(f"layout_path,type\n{rows}")
    return folder / "layouts.csv"


@pytest.mark.benchmark(group="embedding")
def test_embed(
    untrained: Path,
    listed: Path,
    tmp_path: Path,
    benchmark: Any,
    interleaved_briefly: Callable[..., None],
    scaled: Scaled,
) -> None:
    """Checked, hashed, whole on the disk, with index and digests, beside decoding, encoding and one torch.save."""
    numbers = itertools.count()
    registry = installed()
    cache = f"machine.cache={tmp_path / 'cache'}"

    def ours() -> None:
        to = tmp_path / f"latents {next(numbers)}"
        request = EmbedRequest(checkpoint=untrained, to=to, data=listed, settings=(cache,))
        embed(request, registry, log=lambda _: None)

    def bare() -> None:
        model = imginav.load(untrained).encoder
        latents = []
        with torch.inference_mode():
            for start in range(0, scaled(LAYOUTS), scaled(BATCH)):
                layouts = [_pixels(listed.parent / f"{start + offset}.png") for offset in range(scaled(BATCH))]
                images = torch.from_numpy(np.stack(layouts)).permute(0, 3, 1, 2).float() / 127.5 - 1
                latents.append(model(images)[0].half())
        torch.save(torch.cat(latents), tmp_path / "latents.pt")

    benchmark.extra_info["images"] = scaled(LAYOUTS)
    interleaved_briefly(ours, bare, peer="a bare loop")


@pytest.mark.benchmark(group="reading latents")
def test_read(
    untrained: Path, tmp_path: Path, benchmark: Any, interleaved: Callable[..., None], scaled: Scaled
) -> None:
    """In random order, scaled, beside torch.load of a file for each, as many trainers keep them."""
    to, count = tmp_path / "latents", scaled(LATENTS)
    settings = (f"data.count={count}", "machine.cache=false", "data.image_size=64")
    embed(EmbedRequest(checkpoint=untrained, to=to, settings=settings), installed(), log=lambda _: None)
    latents = imginav.LatentDataset(to)
    for index in range(count):
        torch.save(latents[index]["latents"].half(), tmp_path / f"{index}.pt")
    order = random.Random(0).sample(range(count), count)  # noqa: S311  # an order, no secret
    benchmark.extra_info["latents"] = count
    interleaved(
        lambda: [latents[index] for index in order],
        lambda: [torch.load(tmp_path / f"{index}.pt", weights_only=True).float() for index in order],
        peer="torch.load of a file each",
    )


@pytest.mark.benchmark(group="a loaded autoencoder")
def test_encode(untrained: Path, benchmark: Any, interleaved: Callable[..., None], scaled: Scaled) -> None:
    """With its checks, and a tensor that can be trained on, beside its encoder alone."""
    autoencoder = imginav.load(untrained)
    images = torch.rand(4, 3, scaled(512), scaled(512)) * 2 - 1

    def bare() -> None:
        with torch.inference_mode():
            autoencoder.encoder(images)

    interleaved(lambda: autoencoder.encode(images), bare, peer="its encoder alone")


def _pixels(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
