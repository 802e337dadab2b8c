"""`python -m imginav_diffusers SCRIPT.py`: programs of diffusers as they are, on an autoencoder of imginav."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imginav import TrainedAutoencoder
from imginav_diffusers import model_of
from imginav_diffusers.__main__ import main
from imginav_tests.pipelines import small_pipeline

MakeTrained = Callable[..., TrainedAutoencoder]


def launched(*arguments: object, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imginav_diffusers", *map(str, arguments)],
        env={**os.environ, "HF_MODULES_CACHE": str(cache)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_a_program_that_asks_for_another_class_gets_the_autoencoder(make_trained: MakeTrained, tmp_path: Path) -> None:
    pipeline = small_pipeline(model_of(make_trained()))
    pipeline.save_pretrained(tmp_path / "saved")
    (tmp_path / "own_module.py").write_text("WORD = 'beside'")
    script = tmp_path / "train.py"
    script.write_text("""
import sys
import torch
from diffusers import AutoencoderKL, ControlNetModel, DiffusionPipeline, UNet2DConditionModel, UNet2DModel
from own_module import WORD

vae = AutoencoderKL.from_pretrained(sys.argv[1], subfolder="vqvae", revision=None, variant=None)
half = AutoencoderKL.from_pretrained(sys.argv[1], subfolder="vqvae", torch_dtype=torch.bfloat16)
unet = UNet2DModel.from_pretrained(sys.argv[1], subfolder="unet")
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], vqvae=vae)
whole = DiffusionPipeline.from_pretrained(sys.argv[1])
conditional = UNet2DConditionModel(
    block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), norm_num_groups=4
)
for options in ({}, {"conditioning_embedding_out_channels": (8, 16)}):
    print(*ControlNetModel.from_unet(conditional, **options).config.conditioning_embedding_out_channels)
print(__name__, WORD, sys.argv[2:])
print(*(type(model).__name__ for model in (vae, half, unet, pipeline.vqvae, whole.vqvae)), half.dtype)
sys.exit(7)
""")
    done = launched(script, tmp_path / "saved", "--steps", "3", cache=tmp_path / "cache")
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == [
        "16 32 256",  # for the factor 4 of the autoencoder
        "8 16",
        "__main__ beside ['--steps', '3']",
        "ImginavAutoencoder ImginavAutoencoder UNet2DModel ImginavAutoencoder ImginavAutoencoder torch.bfloat16",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage: python -m imginav_diffusers SCRIPT.py [ARGUMENT …]\n"),
        (("none.py",), "imginav_diffusers: none.py is not a file\nusage: python -m imginav_diffusers SCRIPT.py"),
    ],
)
def test_a_program_that_is_not_there_is_named(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith(said)
