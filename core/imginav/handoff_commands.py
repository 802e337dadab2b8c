"""The commands that hand an autoencoder on: export, verify, embed, encode, decode, reconstruct; no logic.

As in `imginav.cli`, what a command needs is imported inside of its function.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def export(options: argparse.Namespace) -> int:
    """Write a checkpoint as a folder that a diffusion trainer loads, and verify it."""
    from imginav import registry
    from imginav.exporting import ExportRequest
    from imginav.exporting import export as write

    request = ExportRequest(
        checkpoint=options.checkpoint,
        to=options.to,
        format=options.format,
        site=options.site,
        settings=tuple(options.settings),
    )
    write(request, registry.installed())
    return 0


def verify(options: argparse.Namespace) -> int:
    """Verify that what export or embed wrote is still the same, and computes the same here."""
    from imginav import registry
    from imginav.verifying import verify as check

    check(options.written, registry.installed(), device=options.device)
    return 0


def embed(options: argparse.Namespace) -> int:
    """Encode a set of layouts once, for diffusion training; given again, it goes on where it was."""
    with options.interruption.hearing():
        from imginav import registry
        from imginav.latent_embedding import EmbedRequest
        from imginav.latent_embedding import embed as write

        request = EmbedRequest(
            checkpoint=options.checkpoint,
            to=options.out,
            data=options.data,
            flips=options.flips,
            precision=options.precision,
            shard=options.shard,
            site=options.site,
            settings=tuple(options.settings),
        )
        write(request, registry.installed(), options.interruption)
    return 0


def encode(options: argparse.Namespace) -> int:
    """Encode a picture, and write its scaled latents as safetensors."""
    from imginav.coding import encode_file, open_coding

    encode_file(
        open_coding(options.model, _experiments(options), options.device), options.picture, options.to, options.size
    )
    return 0


def decode(options: argparse.Namespace) -> int:
    """Decode scaled latents, and write the picture."""
    from imginav.coding import decode_file, open_coding

    decode_file(open_coding(options.model, _experiments(options), options.device), options.latents, options.to)
    return 0


def reconstruct(options: argparse.Namespace) -> int:
    """Encode and decode pictures, and write what becomes of them, side by side with their errors."""
    from imginav.coding import open_coding, reconstruct_files

    coding = open_coding(options.model, _experiments(options), options.device)
    reconstruct_files(coding, options.pictures, options.to, options.size)
    return 0


def _experiments(options: argparse.Namespace) -> Path:
    from imginav.loading import SITE_FILE
    from imginav.watching import experiments_folder

    return experiments_folder(options.site or SITE_FILE)


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], loading: argparse.ArgumentParser
) -> None:
    """Add these commands; `loading` are the options of every command that reads manifests."""
    command = commands.add_parser(
        "export", parents=[loading], help="hand a checkpoint on to diffusion", description=export.__doc__
    )
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint (.pt) of any epoch")
    command.add_argument("--to", type=Path, required=True, metavar="OUT", help="the folder to write")
    command.add_argument(
        "--format",
        default="safetensors",
        metavar="FORMAT",
        help="safetensors (default), diffusers, onnx, pt2, or another exporter that `imginav plugins` lists",
    )
    command.set_defaults(command=export)

    command = commands.add_parser("verify", help="check what export or embed wrote", description=verify.__doc__)
    command.add_argument("written", type=Path, metavar="OUT", help="the folder that export or embed wrote")
    _add_device(command)
    command.set_defaults(command=verify)

    command = commands.add_parser(
        "embed", parents=[loading], help="encode layouts for diffusion training", description=embed.__doc__
    )
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint (.pt) of any epoch")
    command.add_argument(
        "--data", type=Path, metavar="LIST", help="a CSV file of layouts (default: those it was trained and judged on)"
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
    command.add_argument("--shard", type=_shard, default=1024, metavar="N", help="latents in each file (default: 1024)")
    command.set_defaults(command=embed)
    _add_pictures(commands)


def _add_pictures(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands for single pictures."""
    command = commands.add_parser("encode", help="encode a picture", description=encode.__doc__)
    command.add_argument("picture", type=Path, metavar="IN.png", help="a picture of a layout")
    command.add_argument("to", type=Path, metavar="OUT.safetensors", help="the file to write")
    _add_model(command)
    _add_size(command)
    command.set_defaults(command=encode)

    command = commands.add_parser("decode", help="decode latents", description=decode.__doc__)
    command.add_argument("latents", type=Path, metavar="IN.safetensors", help="latents as encode writes them")
    command.add_argument("to", type=Path, metavar="OUT.png", help="the picture to write")
    _add_model(command)
    command.set_defaults(command=decode)

    command = commands.add_parser("reconstruct", help="encode and decode pictures", description=reconstruct.__doc__)
    command.add_argument("pictures", type=Path, nargs="+", metavar="IN", help="pictures of layouts")
    command.add_argument("to", type=Path, metavar="OUT", help="a folder, or for one picture a PNG file, to write")
    _add_model(command)
    _add_size(command)
    command.set_defaults(command=reconstruct)


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        type=Path,
        metavar="MODEL",
        help="a checkpoint (.pt), or a folder that export wrote (default: the newest best checkpoint of all runs)",
    )
    command.add_argument("--site", type=Path, metavar="FILE", help="the site file (default: imginav.toml, if there)")
    _add_device(command)


def _add_size(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--size", type=_side, metavar="PIXELS", help="bring pictures to a square of this side (default: as they are)"
    )


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1 (default: auto)")


def _side(text: str) -> int:
    return _between(text, 8, 8192, "pixels")


def _shard(text: str) -> int:
    return _between(text, 1, 1_000_000, "latents")


def _between(text: str, least: int, most: int, what: str) -> int:
    number = int(text)
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"expected {least} to {most:,} {what}, found {text}")
    return number
