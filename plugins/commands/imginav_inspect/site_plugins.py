"""The plugin files that a site file names: `plugins = ["./mine.py"]`.

A site file that is named with `--site` counts at once. One that only lies in the working folder may be a stranger's, so
its files are used once `imginav trust` has recorded them, with the content that they had then.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from imginav.errors import UserError, shown
from imginav.manifest.reading import read_bytes, read_toml
from imginav.manifest.site import PLUGINS, SITE_FILE
from imginav.plugin.file_plugins import use_files
from imginav_inspect import trust_record


@frozen
class PluginSource:
    """A plugin file that a site file names."""

    path: Path
    content: bytes

    @property
    def place(self) -> str:
        """Its whole path, without links."""
        return str(self.path.resolve())


@frozen
class SitePlugins:
    """What a site file says of plugins."""

    site: Path
    named: tuple[str, ...]  # as the file has them
    files: tuple[PluginSource, ...]

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of the list and of each file, by the paths that they are recorded under."""
        listed = {str(self.site.resolve()): hashlib.sha256("\0".join(self.named).encode()).hexdigest()}
        return listed | {file.place: hashlib.sha256(file.content).hexdigest() for file in self.files}


def plugins_of(site: Path) -> SitePlugins | None:
    """Read the plugin files that a site file names, without running anything; None if it names none.

    Raises UserError where one cannot be read.
    """
    named = read_toml(site).get(PLUGINS, [])
    if not isinstance(named, list) or not all(isinstance(name, str) and name for name in named):
        raise UserError(f'{site}: {PLUGINS} = {shown(named)}: expected a list of files, such as ["./mine.py"]')
    if not named:
        return None
    remedy = f"correct {PLUGINS} in {site}"
    paths = [site.parent / name for name in named]
    return SitePlugins(site, tuple(named), tuple(PluginSource(path, read_bytes(path, remedy)) for path in paths))


def use_site_plugins(options: argparse.Namespace) -> None:
    """Use the plugin files of a command's site file if it loads components; UserError if they are not trusted."""
    if not {"loading", "plugins"} & set(options.command.options):
        return
    named_on_command_line = getattr(options, "site", None)
    site = named_on_command_line or SITE_FILE
    if not site.is_file() or (found := plugins_of(site)) is None:
        return
    if named_on_command_line is None and (changed := trust_record.untrusted(found.site, found.digests)):
        raise UserError(_not_trusted(found, changed))
    use_files([file.path for file in found.files], found.digests)


def _not_trusted(found: SitePlugins, changed: Sequence[str]) -> str:
    names = ", ".join(found.named)
    if trust_record.is_known(found.site):
        what = f"{', '.join(changed)} changed since you trusted {found.site}"
    else:
        what = f"{found.site} of this folder names plugin files that you have not trusted, {names}"
    return f"{what}; look at them and trust them with imginav trust, or name another site file with --site"
