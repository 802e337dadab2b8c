"""The tables at the end of the benches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from imginav.formatting import format_bytes
from imginav_benches.planning import Coded, Diffusion, plans

Bench = Any
"""A bench as pytest-benchmark keeps it: group, name, stats in seconds, and extra_info."""

BASE = "peer_seconds"
"""Where a bench of encoding or decoding keeps the times of the base case's passes."""

CODING = ("encode", "decode", "decode, all heads")

WIDTH = 140


def write_tables(benches: Sequence[Bench], diffusion: Diffusion, write: Callable[[str], None]) -> None:
    """Write one table of what is encoded and decoded, one for planning, one of peers, and one of the rest."""
    coding = [bench for bench in benches if bench.group in CODING]
    peers = [bench for bench in benches if bench.group == "peers"]
    others = [bench for bench in benches if bench not in coding and bench not in peers]
    for table in (_coding(coding), _planning(coding, diffusion), _peers(peers), _others(others)):
        if table.row_count:
            for line in _lines(table):
                write(line)


def _coding(benches: Iterable[Bench]) -> Table:
    table = _table(
        "Encoding and decoding (decode: RGB alone)",
        ["autoencoder", "operation", "batch", "px", "precision", "format", "mode"],
        ["median ms", "p95 ms", "images/s", "peak", "× base"],
    )
    for bench in sorted(benches, key=lambda bench: CODING.index(bench.group)):
        info, median = bench.extra_info, bench.stats.median
        table.add_row(
            info["subject"],
            bench.group,
            str(info["batch"]),
            str(info["size"]),
            info["precision"],
            "NHWC" if info["channels_last"] else "NCHW",
            f"compiled in {info['first_pass_seconds']:.0f} s" if info["compiled"] else "eager",
            f"{1e3 * median:.4g}",
            f"{1e3 * info['p95_seconds']:.4g}",
            f"{info['batch'] / median:.4g}",
            format_bytes(info["peak_bytes"]) if "peak_bytes" in info else "–",
            f"{info['ratio_to_peer'] / info['batch']:.2f}",
        )
    table.caption = (
        "× base: time for an image over that of the operation's first row, measured in turns with it; NHWC: "
        "channels_last; peak: of what is alive while it is computed, weights aside"
    )
    return table


def coded_of(benches: Sequence[Bench]) -> list[Coded]:
    """Return the times of single images of 512 pixels for each autoencoder, under the first condition it is under.

    They are the ratio to the base case, which was measured in turns, times the median of all passes of that:
    autoencoders can be compared although the machine was not equally fast while each of them had its turn.
    """
    found: dict[str, dict[str, Bench]] = {}
    base_ms: dict[str, float] = {}
    for operation in CODING[:2]:
        measured = [bench for bench in benches if bench.group == operation]
        if measured:
            base_ms[operation] = 1e3 * float(np.median([s for bench in measured for s in bench.extra_info[BASE]]))
        for bench in measured:
            if (bench.extra_info["batch"], bench.extra_info["size"]) == (1, 512):
                found.setdefault(bench.extra_info["subject"], {}).setdefault(operation, bench)
    return [
        Coded(
            name,
            tuple(both["encode"].extra_info["latent"]),
            *(base_ms[operation] * both[operation].extra_info["ratio_to_peer"] for operation in CODING[:2]),
            max(both[operation].extra_info.get("peak_bytes", 0) for operation in CODING[:2]),
        )
        for name, both in found.items()
        if len(both) == 2
    ]


def _planning(benches: Sequence[Bench], diffusion: Diffusion) -> Table:
    table = _table(
        "One image of 512 px, encoded for ControlNet, sampled and decoded",
        ["autoencoder", "latent H×W×C", "dimensions"],
        ["encode ms", "decode ms", "steps", "step ms", "image s", "encode", "decode", "images/s", "peak"],
    )
    for plan in plans(coded_of(benches), diffusion):
        one = plan.coded
        table.add_row(
            one.name,
            "×".join(map(str, one.latent)),
            f"{math.prod(one.latent):,}",
            f"{one.encode_ms:.4g}",
            f"{one.decode_ms:.4g}",
            str(plan.steps),
            f"{diffusion.step_ms(one.latent):.4g}",
            f"{plan.image_ms / 1e3:.3g}",
            f"{plan.encode_share:.1%}",
            f"{plan.decode_share:.1%}",
            f"{plan.images_per_second:.3g}",
            format_bytes(one.peak_bytes) if one.peak_bytes else "–",
        )
    table.caption = (
        "encode and decode: the ratio to the base case, measured in turns, times the median of that; a UNet step: "
        f"{diffusion.unet_ms:g} ms over 32×32 cells (--unet-ms), in proportion to the cells; steps: --sampling-steps; "
        "peak: the larger one of encoding and decoding"
    )
    return table


def _peers(benches: Iterable[Bench]) -> Table:
    table = _table(
        "Peers with random weights, in turns with ours at the same resolution",
        ["peer", "operation"],
        ["px", "M parameters", "latent H×W×C", "ours ms", "peer ms", "peer takes × ours", "single turns"],
    )
    for bench in benches:
        info = bench.extra_info
        times = [1 / ratio for ratio in info["ratios"]]
        peer_ms = 1e3 * sum(info["peer_seconds"]) / len(info["peer_seconds"])
        table.add_row(
            info["peer"],
            info["operation"],
            str(info["size"]),
            f"{info['peer_parameters'] / 1e6:.2f}",
            "×".join(map(str, info["peer_latent"])),
            f"{1e3 * bench.stats.mean:.4g}",
            f"{peer_ms:.4g}",
            f"{1 / info['ratio_to_peer']:.3g}",
            f"{min(times):.3g} to {max(times):.3g}",
        )
    return table


def _others(benches: Iterable[Bench]) -> Table:
    table = _table(
        "Training, loading, checkpoints, start (below 1 is faster than the peer)",
        ["group", "bench", "peer"],
        ["median ms", "rate or size", "× peer", "single turns"],
    )
    for bench in benches:
        info = bench.extra_info
        ratios = info.get("ratios", [])
        table.add_row(
            bench.group or "",
            bench.name.removeprefix("test_"),
            info.get("peer", ""),
            f"{1e3 * bench.stats.median:.4g}",
            _rate(bench),
            f"{info['ratio_to_peer']:.3f}" if ratios else "",
            f"{min(ratios):.3f} to {max(ratios):.3f}" if ratios else "",
        )
    return table


def _rate(bench: Bench) -> str:
    info, median = bench.extra_info, bench.stats.median
    if "images" in info:
        return f"{info['images'] / median:,.4g} images/s"
    if "rows" in info:
        return f"{info['rows'] / median:,.0f} rows/s"
    return format_bytes(info["bytes"]) if "bytes" in info else ""


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def _lines(table: Table) -> list[str]:
    console = Console(width=WIDTH, color_system=None, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()
