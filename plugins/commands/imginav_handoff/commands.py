"""The commands that hand an autoencoder on: export, verify, embed, encode, decode, reconstruct; no logic.

What a command needs is imported inside of its function.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from imginav.plugin.commands import Commands
from imginav.plugin.hookspecs import hookimpl
from imginav.study.command_options import whole_number

PICTURES = "pictures of layouts: files, folders with all that is in them, or patterns in quotes, such as 'plans/*.png'"


def export(options: argparse.Namespace) -> int:
    """Write a checkpoint as a folder that a diffusion trainer loads, and verify it."""
    from imginav.plugin.registry import installed
    from imginav_handoff.export import ExportRequest, default_folder
    from imginav_handoff.export import export as write
    from imginav_reports.run_weights import weights_named

    checkpoint = weights_named(options.checkpoint, options.site)
    request = ExportRequest(
        checkpoint=checkpoint,
        to=options.to or default_folder(options.checkpoint, checkpoint, options.format),
        format=options.format,
        site=options.site,
        settings=tuple(options.settings),
    )
    write(request, installed())
    return 0


def verify(options: argparse.Namespace) -> int:
    """Verify that what export or embed wrote is still the same, and computes the same here."""
    from imginav.plugin.registry import installed
    from imginav_handoff.verification import verify as check

    check(options.written, installed(), device=options.device)
    return 0


def embed(options: argparse.Namespace) -> int:
    """Encode a set of layouts once, for diffusion training; given again, it goes on where it was."""
    with options.stop_request.install_handlers():
        from imginav.plugin.registry import installed
        from imginav_handoff.latent_cache import EmbedRequest
        from imginav_handoff.latent_cache import embed as write
        from imginav_reports.run_weights import weights_named

        request = EmbedRequest(
            checkpoint=weights_named(options.checkpoint, options.site),
            to=options.out,
            data=options.data,
            flips=options.flips,
            precision=options.precision,
            shard=options.shard,
            format=options.format,
            site=options.site,
            settings=tuple(options.settings),
        )
        write(request, installed(), options.stop_request)
    return 0


def encode(options: argparse.Namespace) -> int:
    """Encode pictures, and write their scaled latents as safetensors."""
    from imginav_handoff.single_images import encode_files, open_coding

    encode_files(open_coding(options.model, options.site, options.device), options.pictures, options.to, options.size)
    return 0


def decode(options: argparse.Namespace) -> int:
    """Decode scaled latents, and write the picture."""
    from imginav_handoff.single_images import decode_file, open_coding

    decode_file(open_coding(options.model, options.site, options.device), options.latents, options.to)
    return 0


def reconstruct(options: argparse.Namespace) -> int:
    """Encode and decode pictures, and write what becomes of them, side by side with their errors."""
    from imginav_handoff.single_images import open_coding, reconstruct_files

    coding = open_coding(options.model, options.site, options.device)
    reconstruct_files(coding, options.pictures, options.to, options.size)
    return 0


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "checkpoint", type=Path, metavar="RUN|CHECKPOINT", help="a run, by name or folder, or a checkpoint (.pt)"
    )
    command.add_argument(
        "--to", type=Path, metavar="OUT", help="the folder to write (default: beside RUN or CHECKPOINT, with _export)"
    )
    command.add_argument(
        "--format",
        default="safetensors",
        metavar="FORMAT",
        help="safetensors (default), diffusers, onnx, original, pt2, or another exporter that `imginav plugins` lists",
    )


def _add_verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("written", type=Path, metavar="OUT", help="the folder that export or embed wrote")
    _add_device(command)


def _add_embed(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "checkpoint",
        type=Path,
        metavar="RUN|CHECKPOINT",
        help="a run, by name or folder, a checkpoint (.pt), or a folder that export wrote",
    )
    command.add_argument(
        "--data",
        type=Path,
        metavar="LIST",
        help="a CSV file of layouts, or a folder of them (default: those it was trained and judged on)",
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    command.add_argument(
        "--flips",
        default="none",
        choices=("none", "horizontal", "vertical", "both"),
        help="also encode mirrored layouts: left and right, upside down, or all four (default: none)",
    )
    command.add_argument(
        "--precision", default="fp16", choices=("fp16", "fp32"), help="of the latents in the files (default: fp16)"
    )
    command.add_argument(
        "--shard",
        type=whole_number(1, 1_000_000),
        default=1024,
        metavar="N",
        help="latents in each file (default: 1024)",
    )
    command.add_argument(
        "--format",
        default="safetensors",
        metavar="FORMAT",
        help="safetensors (default), original (for ImgiNav's diffusion code), or another exporter that writes latents",
    )


def _add_encode(command: argparse.ArgumentParser) -> None:
    command.add_argument("pictures", nargs="+", metavar="IN", help=PICTURES)
    command.add_argument("to", type=Path, metavar="OUT", help="a folder, or for one picture a .safetensors file")
    _add_model(command)
    _add_size(command)


def _add_decode(command: argparse.ArgumentParser) -> None:
    command.add_argument("latents", type=Path, metavar="IN.safetensors", help="latents as encode writes them")
    command.add_argument("to", type=Path, metavar="OUT.png", help="the picture to write")
    _add_model(command)


def _add_reconstruct(command: argparse.ArgumentParser) -> None:
    command.add_argument("pictures", nargs="+", metavar="IN", help=PICTURES)
    command.add_argument("to", type=Path, metavar="OUT", help="a folder, or for one picture a PNG file, to write")
    _add_model(command)
    _add_size(command)


@hookimpl
def imginav_commands(commands: Commands) -> None:
    """Add the commands that hand an autoencoder on."""
    commands.add("export", export, _add_export, options=("loading",))
    commands.add("verify", verify, _add_verify, options=("plugins",))
    commands.add("embed", embed, _add_embed, options=("loading",))
    commands.add("encode", encode, _add_encode, options=("plugins",))
    commands.add("decode", decode, _add_decode, options=("plugins",))
    commands.add("reconstruct", reconstruct, _add_reconstruct, options=("plugins",))


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        type=Path,
        metavar="MODEL",
        help="a run, by name or folder, a checkpoint (.pt), or a folder that export wrote (default: the newest "
        "finished run, at full scale if there is one)",
    )
    command.add_argument("--site", type=Path, metavar="FILE", help="the site file (default: imginav.toml, if there)")
    _add_device(command)


def _add_size(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--size",
        type=whole_number(8, 8192),
        metavar="PIXELS",
        help="bring pictures to a square of this side (default: as they are, padded with background where needed)",
    )


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1 (default: auto)")
