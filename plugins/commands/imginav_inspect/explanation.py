"""Where each value of a run came from, the whole way down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomlkit
from attrs import frozen
from tomlkit.container import Container
from tomlkit.items import Item, Table

from imginav.errors import UserError, in_one_line
from imginav.formatting import apart
from imginav.manifest.reading import parse_toml, read_text
from imginav.manifest.resolved import HEADING, LINEAGE
from imginav.manifest.structuring import MOST_FAULTS, Structurer, StructuringError
from imginav.manifest.winners import Winner
from imginav.plugin.registry import Registry
from imginav.runs.run_folder import MANIFEST

REMEDY = f"name a run folder, its {MANIFEST}, or a checkpoint (.pt)"
"""What can be explained."""


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
    heading = text.partition("\n")[0].removeprefix("# ") if isinstance(text, str) else ""
    if not isinstance(text, str) or not heading.startswith(HEADING):
        raise UserError(f"{path}: holds no resolved manifest, which begins with {HEADING.strip()!r}; {REMEDY}")
    parse_toml(text, str(path))  # refuses what is out of bounds, in a fraction of the time
    try:
        document = tomlkit.parse(text)
        lineage = Structurer(registry).structure(document.unwrap().get(LINEAGE, {}), dict[str, Winner])
    except tomlkit.exceptions.TOMLKitError as error:
        raise UserError(f"{path}: is not valid TOML: {error}; restore the file, or take a checkpoint (.pt)") from None
    except StructuringError as error:
        faults = "; ".join(
            f"{f.text} @ {in_one_line('.'.join((LINEAGE, *f.path)))}" for f in error.faults[:MOST_FAULTS]
        )
        raise UserError(f"{path}: {faults}; restore the file, or take a checkpoint (.pt)") from None
    values = [row for row in _values(document, ()) if row[0].partition(".")[0] != LINEAGE]
    return Explanation(heading=heading, values=values, lineage=lineage)


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


def _values(table: Container | Table, keys: tuple[str, ...]) -> Iterator[tuple[str, Any, str]]:
    """Return each value of a resolved manifest with the origin that stands as a comment beside it."""
    container = table.value if isinstance(table, Table) else table
    for key in container:
        item = container.item(key)
        if isinstance(item, Table):
            yield from _values(item, (*keys, key))
        elif isinstance(item, Item):
            yield ".".join((*keys, key)), item.unwrap(), item.trivia.comment.removeprefix("# ")
