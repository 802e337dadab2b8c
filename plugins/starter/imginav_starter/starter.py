"""`imginav starter`: a pipeline of diffusers around an autoencoder, to begin diffusion training with."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import torch
from attrs import frozen
from safetensors import SafetensorError

from imginav.errors import UserError, in_one_line
from imginav.files import write_text
from imginav.plugin.registry import Registry
from imginav_handoff.export import ExportRequest, export
from imginav_handoff.exporter import Exporter
from imginav_handoff.folder_beside import folder_beside, is_taken, put
from imginav_handoff.formats import exporter_named
from imginav_handoff.latent_space import LatentSpace
from imginav_handoff.whole_evaluation import evaluation_over_training

Log = Callable[[str], None]

VAE, CARD, LICENCE = "vae", "README.md", "LICENSE"

FORMAT = "diffusers"
"""The exporter whose folders can be the autoencoder of a pipeline."""

CLASS_FILE = "imginav_diffusers.py"
"""Of such a folder: what pipelines load it by."""

WITHOUT_TEXT = ("dit",)
"""Pipelines that need no text encoder."""

LICENCE_TEXT = """\
Configurations, tokenizers, and the randomly initialised weights in this folder may be used by anyone for any purpose
(CC0 1.0, https://creativecommons.org/publicdomain/zero/1.0/).

The autoencoder in the folder vae belongs to those who trained it; under which licence it is used is theirs to say.
"""


@frozen(kw_only=True)
class StarterRequest:
    """What a starter is made around, how large it is, and where it is written."""

    model: Path  # a checkpoint, or a folder with a model of diffusers that export or diffusers wrote
    to: Path
    pipeline: str  # a key of `networks.PIPELINES`
    size: str  # a key of `sizes.SIZES`
    seed: int = 0  # of the random weights
    site: Path | None = None
    settings: tuple[str, ...] = ()


def write_starter(request: StarterRequest, registry: Registry, log: Log = print) -> None:
    """Write a pipeline folder of diffusers, whole or not at all.

    Raises UserError where the place is taken, the autoencoder cannot be loaded, or a library is missing.
    """
    exporter = exporter_named(FORMAT, registry)
    if request.pipeline not in WITHOUT_TEXT:
        check_transformers(request.pipeline)
    if is_taken(request.to):
        raise UserError(f"--to {request.to}: is there already; name another folder")
    with folder_beside(request.to) as folder:
        vae = folder / f"{VAE} of its own"
        try:
            _write_vae(request, exporter, registry, vae, log)
            latent, parameters = _write_networks(request, vae, folder)
            # Where the pipeline has saved the model once more, without what the export has beside it.
            shutil.rmtree(folder / VAE)
            vae.rename(folder / VAE)
        except (OSError, SafetensorError) as error:
            raise UserError(f"--to {request.to}: cannot be written: {_reason(error)}; name another folder") from error
        write_text(folder / LICENCE, LICENCE_TEXT)
        write_text(folder / CARD, card(request, latent, parameters))
        put(folder, request.to)
    for name, count in parameters.items():
        log(f"  {name}  {count:,} parameters")
    log(f"{request.to}: {request.pipeline} for latents of {_shape(latent)}; {CARD} in it says how to train it")


def check_transformers(pipeline: str) -> None:
    """Raise UserError where the library is missing that has text encoders and tokenizers."""
    try:
        from transformers.utils import logging
    except ImportError as error:
        raise UserError(
            f"--pipeline {pipeline} needs the library transformers ({error}); install it: pip install -c "
            "constraints.txt -e '.[starter]', or take --pipeline dit, which has no text"
        ) from error
    logging.set_verbosity_error()  # it warns of image processors, which are not used here
    logging.disable_progress_bar()


def _write_vae(request: StarterRequest, exporter: Exporter, registry: Registry, to: Path, log: Log) -> None:
    model = request.model
    if model.is_dir():
        if exporter.latent_of(model) is None:
            raise UserError(
                f"--model {model}: holds no autoencoder as a model of diffusers; export the checkpoint with --format "
                f"{FORMAT}, or give the checkpoint itself"
            )
        if not (model / CLASS_FILE).is_file():
            raise UserError(
                f"--model {model}: has no {CLASS_FILE}, as an earlier version wrote it; export the checkpoint again"
            )
        shutil.copytree(model, to)
        return
    evaluation_over_training(model, registry, site=request.site, settings=request.settings, log=log)
    written = ExportRequest(
        checkpoint=model,
        to=to,
        format=FORMAT,
        named=request.to / VAE,
        site=request.site,
        settings=request.settings,
    )
    export(written, registry, lambda _: None)


def _write_networks(request: StarterRequest, vae: Path, folder: Path) -> tuple[LatentSpace, dict[str, int]]:
    from diffusers.utils import logging as diffusers_logging

    from imginav_diffusers import ImginavAutoencoder
    from imginav_diffusers.trained import latent_of
    from imginav_starter.networks import PIPELINES
    from imginav_starter.sizes import SIZES

    diffusers_logging.disable_progress_bar()
    load: Any = ImginavAutoencoder.from_pretrained
    vae_model = load(vae, low_cpu_mem_usage=False)  # which it falls back to without accelerate, with a warning
    latent = latent_of(vae_model)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # by which diffusers means code of its own
        torch.manual_seed(request.seed)
        networks = PIPELINES[request.pipeline](vae_model, latent, SIZES[request.size])
    networks.pipeline.save_pretrained(folder)
    parts = {name: part for name, part in networks.pipeline.components.items() if isinstance(part, torch.nn.Module)}
    for name, model in networks.beside.items():
        model.save_pretrained(folder / name)
    parts |= networks.beside
    return latent, {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def _reason(error: OSError | SafetensorError) -> str:
    if isinstance(error, shutil.Error):  # of several files, with the reason of each
        _, _, error = error.args[0][0]
    return in_one_line(getattr(error, "strerror", None) or str(error))


def card(request: StarterRequest, latent: LatentSpace, parameters: Mapping[str, int]) -> str:
    """Return the card of a starter as Markdown."""
    environment = jinja2.Environment(  # noqa: S701  # Markdown, of words of ours
        loader=jinja2.PackageLoader("imginav_starter"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("starter_card.md.j2").render(
        request=request,
        latent=latent,
        shape=_shape(latent),
        parameters=parameters,
    )


def _shape(latent: LatentSpace) -> str:
    return f"{latent.side}×{latent.side}×{latent.channels} (H×W×C)"
