"""The commands for diffusion training with others' programs: starter, pairs; no logic.

What a command needs is imported inside of its function.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from imginav.plugin.commands import Commands
from imginav.plugin.hookspecs import hookimpl
from imginav.study.command_options import positive

PIPELINES = ("stable-diffusion", "stable-diffusion-xl", "stable-diffusion-3", "flux", "dit")

SIZES = ("tiny", "small", "base")


def starter(options: argparse.Namespace) -> int:
    """Write a pipeline of diffusers around an autoencoder, to begin diffusion training with."""
    from imginav.plugin.registry import installed
    from imginav_starter.starter import StarterRequest, write_starter

    request = StarterRequest(
        model=_model(options),
        to=options.to,
        pipeline=options.pipeline,
        size=options.size,
        seed=options.seed,
        site=options.site,
        settings=tuple(options.settings),
    )
    write_starter(request, installed())
    return 0


def pairs(options: argparse.Namespace) -> int:
    """Write layouts with conditioning images and captions, as trainers of diffusers take them."""
    from imginav.plugin.registry import installed
    from imginav_starter.pairs import PairsRequest, write_pairs

    request = PairsRequest(
        model=_model(options),
        to=options.out,
        condition=tuple(options.condition),
        data=options.data,
        limit=options.limit,
        site=options.site,
        settings=tuple(options.settings),
    )
    write_pairs(request, installed())
    return 0


def _model(options: argparse.Namespace) -> Path:
    from imginav_reports.run_weights import weights_named

    return weights_named(options.model, options.site)


def _add_starter(command: argparse.ArgumentParser) -> None:
    command.add_argument("--to", type=Path, required=True, metavar="OUT", help="the folder to write")
    _add_model(command)
    command.add_argument(
        "--pipeline", default=PIPELINES[0], choices=PIPELINES, help=f"what kind of pipeline (default: {PIPELINES[0]})"
    )
    command.add_argument(
        "--size",
        default="small",
        choices=SIZES,
        help="of its networks: about 1, 60 or 250 M parameters (default: small)",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the random weights (default: 0)")


def _add_pairs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    _add_model(command)
    command.add_argument(
        "--condition",
        nargs="*",
        default=["wall"],
        metavar="CLASS",
        help="classes that conditioning images show in white on black; none: no such images (default: wall)",
    )
    command.add_argument(
        "--data",
        type=Path,
        metavar="LIST",
        help="a CSV file of layouts, or a folder of them (default: those it was trained and judged on)",
    )
    command.add_argument("--limit", type=positive, metavar="N", help="the first N layouts of each part (default: all)")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        type=Path,
        metavar="MODEL",
        help="a run, by name or folder, a checkpoint (.pt), or an export to diffusers (default: the newest finished "
        "run, at full scale if there is one)",
    )


@hookimpl
def imginav_commands(commands: Commands) -> None:
    """Add the commands for diffusion training with others' programs."""
    commands.add("starter", starter, _add_starter, options=("loading",))
    commands.add("pairs", pairs, _add_pairs, options=("loading",))
