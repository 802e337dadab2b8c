"""How long recipes train until they are good: arms on the same layouts, seed by seed, one run at a time.

    python benches/time_to_quality.py --to FOLDER
    python benches/time_to_quality.py --to FOLDER --arms benches/ablation.toml --seeds 42
    python benches/time_to_quality.py --to FOLDER --manifest old=phases/1_4.toml --manifest new=phases/1_5.toml

Given again after it was ended, it goes on where it was. It has the machine for itself, or its seconds mean little.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from attrs import evolve

from imginav import UserError
from imginav.exit_status import REQUEUE
from imginav.processes.stop_request import Interrupted, StopRequest
from imginav.runs.records import code_version
from imginav.terminal import print_table, stream_lines
from imginav.training.device import open_device
from imginav_benches.arm_files import Contest, Entry, entries, named_arms, of_data, read_arms
from imginav_benches.quality_report import SIDE_BY_SIDE, Comparison, draw_side_by_side, write_report
from imginav_benches.quality_runs import epochs_of, rebuilt, train_all

HEADLINE = Path(__file__).with_name("headline.toml")

USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and compare; the exit status is 2 for what a user can mend, and 85 where it left and goes on."""
    stop_request = StopRequest()
    try:
        with stop_request.install_handlers():
            compare(_parser().parse_args(arguments), stop_request)
    except UserError as error:
        print(f"time_to_quality: {error}", file=sys.stderr)
        return USER_ERROR
    except Interrupted as error:
        print(f"time_to_quality: stopped by {error}, state saved; run the same command to resume", file=sys.stderr)
        return REQUEUE
    return 0


def compare(options: argparse.Namespace, stop_request: StopRequest) -> None:
    """Train all arms with all seeds, and write what came of it into the folder."""
    stream_lines()
    contest = _contest(options)
    settings = list(options.settings)
    if options.device:
        settings.append(f"machine.device={options.device}")
    how = {"settings": settings, "scale": options.scale, "site": options.site}
    runs = entries(contest, options.seeds, options.to, **how)
    if options.minutes is not None:
        epochs = epochs_of(runs[: len(contest.arms)], options.minutes, options.to, print)
        runs = entries(contest, options.seeds, options.to, epochs=epochs, **how)
    comparison = Comparison(tuple(train_all(runs, stop_request, print)))
    notes = [" ".join(f"{line}." for line in _conditions(runs))]
    tables, verdicts = write_report(options.to, comparison, contest.targets, notes, contest.evaluate_on)
    firsts = zip(runs[: len(contest.arms)], comparison.runs, strict=False)
    pictures = {run.arm: rebuilt(run, trained.evaluation, options.layouts) for run, trained in firsts}
    draw_side_by_side(options.to / SIDE_BY_SIDE, pictures)
    for table in tables:
        print_table(table.title, table.headings, table.rows, [False] * len(table.rows))
    print("\n".join([*verdicts, f"written to {options.to}"]))


def _contest(options: argparse.Namespace) -> Contest:
    if options.manifests and options.arms:
        raise UserError("--manifest and --arms: name the arms by one of them")
    contest = named_arms(options.manifests) if options.manifests else read_arms(options.arms or HEADLINE)
    if options.evaluate_on:
        contest = evolve(contest, evaluate_on=of_data(options.evaluate_on, "--evaluate-on"))
    return contest


def _conditions(runs: Sequence[Entry]) -> list[str]:
    """Return under which conditions the figures hold."""
    manifest = runs[0].resolved.manifest
    device = open_device(manifest.machine)
    seeds = list(dict.fromkeys(run.seed for run in runs))
    source = manifest.data.open()
    return [
        f"Arms in turns, one run at a time, on {device.name}, {device.precision}",
        f"Python {platform.python_version()}, torch {torch.__version__}, imginav {code_version()}",
        f"{source.describe()[:1].upper()}{source.describe()[1:]}, all arms validate on the same ones",
        f"{'Seeds' if len(seeds) > 1 else 'Seed'} {', '.join(map(str, seeds))}: the median, and the range in brackets",
        "Seconds are those of training steps, without validation, checkpoints and evaluation; "
        "a level counts as reached at the first measured point that is no worse",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog="It goes on where it was when it is given again."
    )
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where runs and results are written")
    parser.add_argument(
        "--arms", type=Path, metavar="FILE", help="a TOML file of arms (default: benches/headline.toml)"
    )
    parser.add_argument(
        "--manifest", action="append", dest="manifests", default=[], metavar="NAME=PATH",
        help="an arm, in place of a file of arms; the first is the one that the others are held against",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", dest="settings", default=[], metavar="KEY=VALUE", help="a value for all arms"
    )
    parser.add_argument("--seeds", type=_numbers, default=[42, 43, 44], metavar="N,N", help="(default: 42,43,44)")
    parser.add_argument(
        "--minutes", type=_minutes, metavar="M",
        help="of training for each run: its epochs follow from the arm's pace (default: the epochs of the manifest)",
    )  # fmt: skip
    parser.add_argument(
        "--evaluate-on", action="append", default=[], metavar="KEY=VALUE",
        help="measure the final weights on other data as well, such as data.seed=1",
    )  # fmt: skip
    parser.add_argument(
        "--layouts", type=_layouts, default=6, metavar="N", help="in the picture side by side (default: 6)"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 (default: what the manifests say)")
    parser.add_argument("--site", type=Path, metavar="FILE", help="a site file; that of the working folder is not read")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--full", dest="scale", action="store_const", const="full", help="without [trial] values")
    scale.add_argument("--trial", dest="scale", action="store_const", const="trial", help="with [trial] values")
    parser.set_defaults(scale="auto")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < float("inf"):
        raise ValueError(text)
    return minutes


def _layouts(text: str) -> int:
    layouts = int(text)
    if layouts < 1:
        raise ValueError(text)
    return layouts


_layouts.__name__ = "a number of layouts, from 1"
_numbers.__name__ = "whole numbers"  # what argparse calls it where the text is none
_minutes.__name__ = "minutes above 0"

if __name__ == "__main__":
    sys.exit(main())
