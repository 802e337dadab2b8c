"""`imginav trust`: shows the plugin files that a site file names, runs none, and records that they are trusted."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from imginav.errors import UserError, in_one_line
from imginav.formatting import format_bytes
from imginav_inspect import trust_record
from imginav_inspect.site_plugins import PluginSource, SitePlugins, plugins_of

FIRST_LINES = 5
"""Of a file, that are shown; a person who wants more opens it."""


def trust_site(site: Path, *, yes: bool) -> None:
    """Show what would be trusted, ask unless the answer is yes, and record it: all files of the list, or none."""
    found = plugins_of(site)
    if found is None:
        raise UserError(f"{site}: names no plugin files, so there is nothing to trust")
    print("\n".join(described(found)))
    if not trust_record.untrusted(site, found.digests):
        print("trusted already, as they are")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise UserError("nothing is trusted: there is no terminal to ask in; look at the files and give --yes")
        if input("Trust these files, which then run with your rights? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing is trusted")
            return
    trust_record.trust(site, found.digests)
    print(f"trusted as they are now; recorded in {trust_record.record_path()}")


def forget_site(site: Path) -> None:
    """Take a site file out of the record."""
    if not trust_record.forget(site):
        raise UserError(f"{site}: is not trusted; imginav trust --list shows what is")
    print(f"{site}: is trusted no longer")


def listing() -> list[str]:
    """Return what is trusted, for people: each site file with its plugin files."""
    lines = []
    for site, files in trust_record.trusted().items():
        own = {file: digest for file, digest in files.items() if file != site}
        lines += [in_one_line(site), *(f"  {in_one_line(file)}  SHA-256 {own[file][:12]}" for file in own)]
    return lines or ["nothing is trusted"]


def described(found: SitePlugins) -> Iterator[str]:
    """Return what a site file names: each file with its size, its classes and its first lines."""
    number = len(found.files)
    yield f"{in_one_line(str(found.site.resolve()))} names {number} plugin {'file' if number == 1 else 'files'}:"
    for file in found.files:
        lines = file.content.decode(errors="replace").splitlines()
        size = format_bytes(len(file.content))
        yield f"\n{in_one_line(str(file.path.resolve()))}  {size}, {len(lines)} lines; {_classes(file)}"
        yield from (f"  | {in_one_line(line)}" for line in lines[:FIRST_LINES])
        if len(lines) > FIRST_LINES:
            yield "  | …"


def _classes(file: PluginSource) -> str:
    """Return the names of the classes that a file defines, from its text alone."""
    try:
        names = [node.name for node in ast.parse(file.content).body if isinstance(node, ast.ClassDef)]
    except (SyntaxError, ValueError, RecursionError):
        return "is not valid Python"
    return f"classes {', '.join(names)}" if names else "no classes"
