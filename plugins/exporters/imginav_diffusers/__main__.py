"""`python -m imginav_diffusers SCRIPT.py ARGS…`: runs a program of diffusers, as it is, on an autoencoder of imginav.

Programs of diffusers load their autoencoder by `AutoencoderKL.from_pretrained`. While the program runs, folders whose
config names `ImginavAutoencoder` are loaded as that class, whichever class the program asks for; all others are loaded
as usual. A ControlNet made from a UNet downsamples its conditioning image by the factor of the autoencoder that was
loaded last, instead of by 8.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from diffusers import ControlNetModel
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines import pipeline_loading_utils

from imginav_diffusers.autoencoder import ImginavAutoencoder
from imginav_diffusers.conditioning import conditioning_channels

USAGE = "usage: python -m imginav_diffusers SCRIPT.py [ARGUMENT …]\n"

CONFIG_OPTIONS = ("subfolder", "revision", "token", "cache_dir", "force_download", "local_files_only", "proxies")


def main(arguments: list[str]) -> None:
    """Run a program with its arguments."""
    if not arguments or not Path(arguments[0]).is_file():
        found = f"imginav_diffusers: {arguments[0]} is not a file\n" if arguments else ""
        sys.stderr.write(found + USAGE)
        sys.exit(2)
    adapt_diffusers()
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).resolve().parent)  # as Python has it for a program
    runpy.run_path(arguments[0], run_name="__main__")


def adapt_diffusers() -> None:
    """Let diffusers load autoencoders of imginav as what they are, and make ControlNets that fit them, from now on."""
    models: Any = ModelMixin  # Any, as it is about to be changed
    loading: Any = pipeline_loading_utils
    controlnets: Any = ControlNetModel
    load_by_class = models.from_pretrained.__func__
    controlnet_of_unet = controlnets.from_unet.__func__
    class_from_file = loading.get_class_from_dynamic_module
    factors: list[int] = []  # of the autoencoders that have been loaded, the last one last

    def from_pretrained(cls: type[Any], /, pretrained_model_name_or_path: Any, **options: Any) -> Any:
        if not issubclass(cls, ImginavAutoencoder):
            asked = {key: options[key] for key in CONFIG_OPTIONS if key in options}
            config = cls.load_config(pretrained_model_name_or_path, **asked)
            if config.get("_class_name") == ImginavAutoencoder.__name__:
                cls = ImginavAutoencoder
        model = load_by_class(cls, pretrained_model_name_or_path, **options)
        if isinstance(model, ImginavAutoencoder):
            factors.append(model.spatial_compression_ratio)
        return model

    def get_class(*arguments: Any, **options: Any) -> Any:
        # A saved pipeline brings the class as a file of its own; the one that is installed needs no trust.
        if options.get("class_name") == ImginavAutoencoder.__name__:
            return ImginavAutoencoder
        return class_from_file(*arguments, **options)

    def from_unet(cls: type[Any], unet: Any, *arguments: Any, **options: Any) -> Any:
        if not arguments and factors:
            options.setdefault("conditioning_embedding_out_channels", conditioning_channels(factors[-1]))
        return controlnet_of_unet(cls, unet, *arguments, **options)

    models.from_pretrained = classmethod(from_pretrained)
    controlnets.from_unet = classmethod(from_unet)
    loading.get_class_from_dynamic_module = get_class


if __name__ == "__main__":
    main(sys.argv[1:])
