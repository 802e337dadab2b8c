"""The plugin files that the user trusts, with their content: `trusted.json` in the user's own folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from imginav.errors import UserError
from imginav.files import write_text

FILE = "trusted.json"


def record_path() -> Path:
    """Return where the record lies: in `$XDG_CONFIG_HOME/imginav`, or in `~/.config/imginav`."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    # As its specification says, a path that is not absolute is ignored: it would lie in a stranger's folder.
    return (Path(config) if Path(config).is_absolute() else Path.home() / ".config") / "imginav" / FILE


def trusted() -> dict[str, dict[str, str]]:
    """Return the SHA-256 of list and files by path, by the path of the site file that names them."""
    path = record_path()
    try:
        known = json.loads(path.read_text())
        return {site: {str(file): str(digest) for file, digest in files.items()} for site, files in known.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it, and trust again with imginav trust") from None


def is_known(site: Path) -> bool:
    """Whether a site file was trusted, whatever it held then."""
    return str(site.resolve()) in trusted()


def untrusted(site: Path, digests: Mapping[str, str]) -> list[str]:
    """Return the paths whose content is not the trusted one."""
    known = trusted().get(str(site.resolve()), {})
    return [path for path, digest in digests.items() if known.get(path) != digest]


def trust(site: Path, digests: Mapping[str, str]) -> None:
    """Record the content of a site file's list and of all its files, in place of what was recorded of it."""
    _save({**trusted(), str(site.resolve()): dict(digests)})


def forget(site: Path) -> bool:
    """Take a site file out of the record; return whether it was there."""
    known = trusted()
    there = known.pop(str(site.resolve()), None) is not None
    if there:
        _save(known)
    return there


def _save(known: Mapping[str, Mapping[str, str]]) -> None:
    path = record_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(
            f"{path.parent}: cannot be made: {error.strerror}; set XDG_CONFIG_HOME to another folder"
        ) from None
    write_text(path, json.dumps(known, indent=2) + "\n")
