from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imginav import UserError
from imginav.manifest import loading
from imginav.plugin.checkpoint import Checkpoint
from imginav.plugin.registry import installed
from imginav_benches import arms, chosen, same_network_once
from imginav_benches.cases import base_case
from imginav_benches.subjects import FINAL, Subject


def test_arms_that_are_one_network_are_measured_once_under_all_names() -> None:
    own = chosen(None, None)
    assert [subject.name for subject in own] == ["1.5"]
    names = [subject.name for subject in same_network_once([*own, *arms()])]
    assert sorted(name for joined in names for name in joined.split(", ")) == sorted(
        ["1.5", "L1", "L2", "L3", "L4", "L5", "R1", "R2", "R3"]
    )
    # As the phases stand, 1.5 trains what L3 and R2 are, but for a head that no diffusion model decodes.
    assert names[0] == "1.5, L3, R2"


def test_sizes_of_latents() -> None:
    by_name = {subject.name: subject.latent(512) for subject in arms()}
    assert by_name["L1"] == (32, 32, 4)
    assert by_name["R1"][:2] == (64, 64)
    assert by_name["R3"][:2] == (16, 16)


@pytest.mark.parametrize(
    ("heads", "all_outputs", "outputs"),
    [
        (
            ["palette=false", "rgb={ type = 'rgb' }", "segmentation={ type = 'segmentation' }"],
            ("rgb", "segmentation", "latent"),
            ("rgb", "latent"),
        ),
        (
            ["palette={ type = 'palette' }", "classification={ type = 'classification' }"],
            ("rgb", "segmentation", "classification", "latent"),
            ("rgb", "segmentation", "latent"),  # which come from one head
        ),
    ],
)
def test_a_checkpoint_is_measured_with_its_weights_and_the_head_of_rgb_alone(
    tmp_path: Path, heads: list[str], all_outputs: tuple[str, ...], outputs: tuple[str, ...]
) -> None:
    settings = ["encoder.base_channels=16", "encoder.latent_channels=4", "encoder.downsampling_steps=2"]
    settings += [f"decoder.heads.{head}" for head in heads]
    resolved = loading.load(FINAL, installed(), settings=settings, scale="full", use_site=False)
    device = base_case("cpu").open("cpu")
    path = tmp_path / "a.pt"
    model = Subject(name="a", manifest=resolved.manifest).build(device, rgb_only=False)
    assert set(model.output_names) == set(all_outputs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    Checkpoint(
        model=model.state_dict(), epoch=1, metrics={}, manifest=resolved.to_toml(), origins=resolved.origins
    ).save(path)

    (subject,) = chosen(None, path)
    built = subject.build(device, rgb_only=True)
    assert built.output_names == outputs
    assert all(bool((parameter == 0.5).all()) for parameter in built.parameters())
    assert subject.latent(512) == (128, 128, 4)


def test_without_an_image_there_is_nothing_to_decode(tmp_path: Path) -> None:
    phase = tmp_path / "phase.toml"
    phase.write_text(
        f'extends = "{FINAL}"\n[decoder.heads]\npalette = false\nsegmentation = {{}}\n'
        '[losses]\nmse = false\n[train]\nmonitor = "val_loss"\n'
    )
    with pytest.raises(UserError, match=r"1\.5 has no output rgb"):
        chosen(phase, None)
