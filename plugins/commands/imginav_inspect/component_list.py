"""The installed components as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from imginav.formatting import format_path
from imginav.plugin.registry import Registry


def print_components(registry: Registry) -> None:
    """Print kind, name, distribution and version, file and description of each component."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "name", "from", "file"):
        table.add_column(heading, overflow="fold" if heading == "file" else "ellipsis", no_wrap=heading != "file")
    table.add_column("what it is", overflow="fold")
    for r in registry:
        table.add_row(
            r.kind,
            r.name,
            f"{r.provider.distribution} {r.provider.version}".strip(),
            format_path(r.file),
            r.description,
        )
    console = Console()
    # Into a pipe or a file, each component takes one line, so that it can be searched.
    Console(width=console.width if console.is_terminal else 400).print(table)


def components_as_json(registry: Registry) -> list[dict[str, str]]:
    """Return the same for programs."""
    return [
        {
            "kind": r.kind,
            "name": r.name,
            "distribution": r.provider.distribution,
            "version": r.provider.version,
            "file": r.file,
            "description": r.description,
        }
        for r in registry
    ]
