"""Print which folders of the core and which plugins import which, and how large each is.

Run it as `python docs/layers.py`. It reads the source and needs no package. Every import counts, including those inside
functions and under `TYPE_CHECKING`. With `--write` it updates the tables in docs/architecture.md.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "core" / "imginav"
PAGE = ROOT / "docs" / "architecture.md"

FOLDERS = ("study/", "runs/", "training/", "data/", "model/", "manifest/", "plugin/", "processes/")
"""The folders of the core from top to bottom: each may import those to its right."""

FACE = ("imginav", "imginav.plugin")
"""The public modules of the core."""

BASE = "base"
"""The label of the core's single files that import no folder."""

BEGIN, END = "<!-- begin: python docs/layers.py --write -->", "<!-- end -->"
"""The lines of the page around the tables."""


def module_name(path: Path) -> str:
    """Return the name by which a file of the core or of a plugin is imported."""
    levels = 1 if path.is_relative_to(CORE) else 2
    parts = path.relative_to(ROOT).with_suffix("").parts[levels:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for folder in (CORE, ROOT / "plugins") for path in sorted(folder.rglob("*.py"))}


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the other modules of imginav and its plugins that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from imginav.study import phases` imports a module, `from imginav.plugin import Registry` a name.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return frozenset(found & MODULES.keys() - {module})


@cache
def base_modules() -> frozenset[str]:
    """Return the single files of the core that import no folder, neither directly nor through another one."""
    base = {module for module, path in MODULES.items() if path.parent == CORE}
    while outside := {module for module in base if imports_of(module) - base}:
        base -= outside
    return frozenset(base)


def part_of(module: str) -> str:
    """Return the part that a module belongs to: a folder or a file of the core, `base`, or a plugin's package."""
    path = MODULES[module]
    if not path.is_relative_to(CORE):
        return module.partition(".")[0]
    if module in base_modules():
        return BASE
    return path.name if path.parent == CORE else f"{path.relative_to(CORE).parts[0]}/"


def parts(modules: Iterable[str]) -> dict[str, list[str]]:
    """Return modules by their part."""
    grouped: dict[str, list[str]] = {}
    for module in modules:
        grouped.setdefault(part_of(module), []).append(module)
    return grouped


def core_table() -> list[str]:
    """Return the parts of the core as a Markdown table, from the command line down to the base."""
    core = parts(module for module, path in MODULES.items() if path.is_relative_to(CORE))
    names = [*sorted(core.keys() - {*FOLDERS, BASE}), *FOLDERS, BASE]
    table = ["| in `core/imginav/` | files | lines | imports |", "|---|---:|---:|---|"]
    for name in names:
        imported = {part_of(other) for module in core[name] for other in imports_of(module)} - {name}
        shown = [*(other for other in names if other in imported), *sorted(imported - {*names})]
        title = f"`{name}`" if name != BASE else f"{BASE}: {code(MODULES[module].name for module in core[BASE])}"
        table.append(row(title, size(core[name]), code(shown)))
    everything = [module for modules in core.values() for module in modules]
    return [*table, row("total", size(everything), "")]


def plugin_table() -> list[str]:
    """Return the packages of the plugins as a Markdown table; those that use only the public modules come first."""
    rows = []
    packages = parts(module for module, path in MODULES.items() if not path.is_relative_to(CORE))
    for name, modules in packages.items():
        imported = {other for module in modules for other in imports_of(module)}
        of_core = {other for other in imported if MODULES[other].is_relative_to(CORE)}
        public = [other for other in FACE if other in of_core]
        internal = {part_of(other) for other in of_core - {*FACE}}
        plugins = sorted({part_of(other) for other in imported - of_core} - {name})
        shown = [*public, *(part for part in (*FOLDERS, BASE) if part in internal)]
        folder = MODULES[modules[0]].relative_to(ROOT / "plugins").parts[0]
        cells = (f"`{folder}/{name}`", size(modules), code(shown), code(plugins))
        rows.append((bool(internal), folder, row(*cells)))
    head = ["| in `plugins/` | files | lines | imports of the core | imports of plugins |", "|---|---:|---:|---|---|"]
    everything = [module for modules in packages.values() for module in modules]
    return [*head, *(line for *_, line in sorted(rows)), row("total", size(everything), "", "")]


def row(*cells: str) -> str:
    """Return a row of a Markdown table."""
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def size(modules: Sequence[str]) -> str:
    """Return the number of files and of their lines as two cells."""
    lines = sum(len(MODULES[module].read_text(encoding="utf-8").splitlines()) for module in modules)
    return f"{len(modules)} | {lines:,}"


def code(names: Iterable[str]) -> str:
    """Return names as code, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def main() -> None:
    """Print the tables, or write them into the page."""
    tables = "\n".join([*core_table(), "", *plugin_table()])
    if sys.argv[1:] == ["--write"]:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")
    else:
        print(tables)


if __name__ == "__main__":
    main()
