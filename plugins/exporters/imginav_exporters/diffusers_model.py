"""A model of the library diffusers, which trains and runs diffusion models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import frozen

from imginav import Exporter, TrainedAutoencoder, UserError
from imginav.plugin import write_bytes, write_text

if TYPE_CHECKING:
    from torch import nn

    from imginav_diffusers import ImginavAutoencoder
    from imginav_handoff.latent_space import LatentSpace

CLASS, CONFIG, WEIGHTS = "ImginavAutoencoder", "config.json", "diffusion_pytorch_model.safetensors"


@frozen(kw_only=True)
class DiffusersExporter(Exporter):
    """A model of diffusers, which its trainers and pipelines take in place of AutoencoderKL; needs diffusers."""

    library: ClassVar[str] = "diffusers"
    scaling_note: ClassVar[str] = (
        "ImginavAutoencoder takes the mean off and puts it back by itself, so that config.shift_factor is 0; to scale, "
        "by config.scaling_factor, is the trainer's part."
    )

    def check(self) -> None:
        _model_class()

    def write(self, trained: TrainedAutoencoder, folder: Path) -> None:
        _model_class()
        from safetensors.torch import save

        from imginav_diffusers import model_of
        from imginav_diffusers.autoencoder import CLASS_FILE

        model = model_of(trained)
        # What save_pretrained writes, but whole or not at all, and for others to read as well.
        write_text(folder / CONFIG, model.to_json_string())
        write_text(folder / CLASS_FILE, model.class_source())
        write_bytes(folder / WEIGHTS, save(model.state_dict(), {"format": "pt"}))

    def open(self, folder: Path, latent: LatentSpace) -> tuple[nn.Module, nn.Module]:
        model = _loaded(folder)
        from imginav_diffusers.scaled import ScaledDecoder, ScaledEncoder

        return ScaledEncoder(model), ScaledDecoder(model)

    def latent_of(self, folder: Path) -> LatentSpace | None:
        if not _is_own(folder):
            return None
        model = _loaded(folder)
        from imginav_diffusers.trained import latent_of

        return latent_of(model)

    def given(self, latent: LatentSpace) -> LatentSpace:
        return latent.left_with(scaling_factor=latent.scaling_factor)

    def how_to_load(self, folder: str) -> str:
        return (
            "from imginav_diffusers import ImginavAutoencoder\n\n"
            f'vae = ImginavAutoencoder.from_pretrained("{folder}")\n'
            "# images are (N, 3, H, W) in [-1, 1]\n"
            "latents = vae.encode(images).latent_dist.sample()\n"
            "scaled = (latents - vae.config.shift_factor) * vae.config.scaling_factor  # what diffusion works in\n"
            "images = vae.decode(scaled / vae.config.scaling_factor + vae.config.shift_factor).sample\n"
        )

    def first_use(self, folder: str) -> str:
        return (
            "import torch\n"
            "from diffusers import DDPMScheduler, UNet2DModel\n"
            "from imginav_diffusers import ImginavAutoencoder\n\n"
            f'vae = ImginavAutoencoder.from_pretrained("{folder}")\n'
            "images = torch.zeros(1, 3, vae.config.sample_size, vae.config.sample_size)  # RGB in [-1, 1]\n"
            "with torch.no_grad():\n"
            "    latents = vae.encode(images).latent_dist.sample() * vae.config.scaling_factor\n"
            "unet = UNet2DModel(\n"
            "    in_channels=latents.shape[1],\n"
            "    out_channels=latents.shape[1],\n"
            "    block_out_channels=(64, 128),\n"
            '    down_block_types=("DownBlock2D", "AttnDownBlock2D"),\n'
            '    up_block_types=("AttnUpBlock2D", "UpBlock2D"),\n'
            ")\n"
            "noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (len(latents),))\n"
            "noisy = DDPMScheduler().add_noise(latents, noise, timesteps)\n"
            "loss = torch.nn.functional.mse_loss(unet(noisy, timesteps).sample, noise)\n"
        )


def _is_own(folder: Path) -> bool:
    """Whether the config of a model of diffusers names this class."""
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("_class_name") == CLASS


def _loaded(folder: Path) -> ImginavAutoencoder:
    model_class = _model_class()
    load: Any = model_class.from_pretrained  # which diffusers annotates as if it returned the model alone
    model: ImginavAutoencoder
    info: dict[str, list[str]]
    try:
        # Without accelerate, diffusers falls back to False by itself, but logs a warning about it.
        model, info = load(folder, low_cpu_mem_usage=False, output_loading_info=True)
    except UserError as error:
        raise UserError(f"{folder}/{error}") from error
    except (OSError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{folder}: cannot be loaded ({reason}); export it again") from error
    # With only a line in the log, diffusers would go on with whatever lies in the memory of weights that are missing.
    if strange := ", ".join(sorted({*info["missing_keys"], *info["unexpected_keys"]})):
        raise UserError(
            f"{folder}: does not fit what it describes (weights {strange[:300]}); a plugin may have changed: restore it"
        )
    return model


def _model_class() -> type[ImginavAutoencoder]:
    # Imported late: diffusers is optional, and takes seconds, which whoever exports to another format need not wait.
    try:
        from imginav_diffusers import ImginavAutoencoder
    except ImportError as error:
        raise UserError(
            f"the format diffusers needs the library diffusers ({error}); install it: pip install "
            "-c constraints.txt -e '.[diffusers]'"
        ) from error
    return ImginavAutoencoder
