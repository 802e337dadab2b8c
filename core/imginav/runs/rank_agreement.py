"""Whether all ranks of a run train the same: each reads the manifest and opens the layouts by itself."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from imginav.errors import UserError
from imginav.manifest.config_layers import leaves
from imginav.manifest.fingerprints import DataFingerprint
from imginav.manifest.resolved import ResolvedManifest
from imginav.processes.distributed import World

MAY_DIFFER = ("output", "machine")
"""Tables that say where and how each machine works. All else has to be the same, also what no rank but the first acts
on: where it is not, the files are not the same, and nobody would know which of them a result is of."""

MUST_NOT = ("machine.precision",)
"""What has to be the same in these tables: fp16 scales its gradients, and they are summed with those of other ranks."""

MOST_SHOWN = 3


def refuse_other_manifests(resolved: ResolvedManifest, world: World) -> None:
    """Raise UserError in all ranks where one of them has resolved another manifest than the first."""
    values = {".".join(keys): repr(value) for keys, value in leaves(resolved.tables)}
    own = {
        key: value
        for key, value in values.items()
        if key in MUST_NOT or (key.partition(".")[0] not in MAY_DIFFER and key not in resolved.places)
    }
    own["the order of callbacks"] = ", ".join(resolved.manifest.callbacks)
    _refuse_differences(world, own, "resolved another manifest")


def refuse_other_layouts(data: DataFingerprint, world: World) -> None:
    """Raise UserError in all ranks where one of them has opened or split other layouts than the first."""
    parts = {"layouts": (data.layouts.rows, data.layouts.sha256), "split": (data.split.train, data.split.sha256)}
    own = {name: f"{rows:,} with SHA-256 {sha256[:16]}" for name, (rows, sha256) in parts.items()}
    _refuse_differences(world, own, "opened other layouts")


def _refuse_differences(world: World, own: dict[str, str], what: str) -> None:
    ranks = world.all_gather((socket.gethostname(), own))
    host, first = ranks[0]
    if not (others := [rank for rank, (_, values) in enumerate(ranks) if values != first]):
        return
    if not world.is_first:
        world.barrier()  # until the first one has told it, which ends them all
    values = ranks[others[0]][1]
    left_out = "left out"
    differing = [
        f"{key} = {values.get(key, left_out)} (there {first.get(key, left_out)})"
        for key in first | values
        if first.get(key) != values.get(key)
    ]
    raise UserError(
        f"{_listed([f'process {rank} on {ranks[rank][0]}' for rank in others])} {what} than process 0 on {host}: "
        f"{_listed(differing)}; files differ between the machines, or were changed while the processes started: make "
        "them the same, and give the same command again"
    )


def _listed(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - MOST_SHOWN} more" if len(parts) > MOST_SHOWN else ""
    return ", ".join(parts[:MOST_SHOWN]) + more
