"""Where each value of a run came from, the whole way down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomlkit
from attrs import frozen

from imginav.errors import UserError, in_one_line
from imginav.formatting import apart
from imginav.manifest.config_layers import leaves
from imginav.manifest.reading import parse_toml, read_text
from imginav.manifest.resolution import HEADING, RESOLVED, resolution_of
from imginav.manifest.resolved import LINEAGE
from imginav.manifest.structuring import Structurer, StructuringError
from imginav.manifest.winners import Winner
from imginav.plugin.registry import Registry
from imginav.runs.run_folder import MANIFEST

REMEDY = f"name a run folder, its {MANIFEST}, or a checkpoint (.pt)"
"""What can be explained."""

NOT_RESOLVED = f"holds no resolved manifest, which begins with {HEADING.strip()!r}; {REMEDY}"


@frozen(kw_only=True)
class Explanation:
    """A resolved manifest with the origin of each value, and the winners that it rests on."""

    heading: str
    values: list[tuple[str, Any, str]]  # dotted key, value, origin
    lineage: dict[str, Winner]

    @property
    def lines(self) -> list[str]:
        """The explanation for a terminal."""
        lines = [self.heading, *value_lines(self.values)]
        for winner in self.lineage.values():
            lines += ["", winner.summary, *evidence_lines(winner)]
        return [in_one_line(line) for line in lines]  # the file may be a stranger's


def explain(path: Path, registry: Registry) -> Explanation:
    """Explain a run folder, its manifest.toml, or a checkpoint; raises UserError where it is none of them."""
    if path.suffix == ".pt":
        from imginav.plugin.checkpoint import load_checkpoint  # torch takes seconds to import

        text: object = load_checkpoint(path).manifest  # a file of a stranger may hold anything there
    else:
        text = read_text(path / MANIFEST if path.is_dir() else path, REMEDY)
    if not isinstance(text, str):
        raise UserError(f"{path}: {NOT_RESOLVED}")
    tables = parse_toml(text, str(path))
    try:
        resolution = resolution_of(text, tables)
        found = Structurer(registry).structure({LINEAGE: tables.get(LINEAGE, {})}, dict[str, dict[str, Winner]])
    except tomlkit.exceptions.TOMLKitError as error:
        raise UserError(f"{path}: is not valid TOML: {error}; restore the file, or take a checkpoint (.pt)") from None
    except StructuringError as error:
        raise UserError(f"{path}: {error}; restore the file, or take a checkpoint (.pt)") from None
    if resolution is None:
        raise UserError(f"{path}: {NOT_RESOLVED}")
    origins = resolution.by_key
    values = [
        (".".join(keys), value, origins.get(".".join(keys), ""))
        for keys, value in leaves(tables)
        if keys[0] not in (LINEAGE, RESOLVED) and value != {}  # of an empty table, there is nothing to explain
    ]
    return Explanation(heading=resolution.heading, values=values, lineage=found[LINEAGE])


def value_lines(values: list[tuple[str, Any, str]]) -> list[str]:
    """Return `key = value · origin` for each value."""
    return [f"{key} = {tomlkit.item(value).as_string()} · {origin}" for key, value, origin in values]


def evidence_lines(winner: Winner) -> list[str]:
    """Return what a decision rests on, for people."""
    shown = []
    for name, candidate in winner.experiments.items():
        if candidate.mean is None:
            shown.append(f"{name} {candidate.state}")
        else:
            figure, _ = apart(candidate.mean, candidate.mean)
            shown.append(f"{name} {figure} ({candidate.latent})")
    return [
        f"  because {winner.because}",
        f"  {winner.metric.name}: {', '.join(shown)}",
        f"  {winner.metric.name} is the {winner.metric.definition}",
        f"  {winner.layouts.description}; {winner.split.train} train, {winner.split.validation} validate, "
        f"by {winner.split.by}; at {winner.scale} scale",
        f"  decided {winner.date} with imginav {winner.code_version}, from {winner.source}",
    ]
