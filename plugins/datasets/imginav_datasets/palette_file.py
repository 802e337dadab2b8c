"""A palette of the user's own: a TOML file that names the classes with their colours.

    background = "floor"

    [classes]
    floor = [240, 240, 240]
    wall = [200, 200, 200]

The classes have their indices in the order in which they stand there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli
import tomlkit

from imginav import UserError
from imginav.plugin import UNMATCHED, Palette, did_you_mean, write_text

KEYS = ("background", "classes")


def read_palette(path: Path) -> Palette:
    """Return the palette of a file; raises UserError with all that is wrong with it."""
    tables = _tables(path)
    faults = [
        f"no key {key!r}{did_you_mean(key, KEYS)}; there are {', '.join(KEYS)}"
        for key in sorted(set(tables) - set(KEYS))
    ]
    classes = tables.get("classes")
    if not isinstance(classes, dict) or not 2 <= len(classes) <= UNMATCHED:
        faults.append(f"expected 2 to {UNMATCHED} classes in [classes], each as name = [red, green, blue]")
        classes = {}
    faults += [
        f"expected three whole numbers from 0 to 255, found {colour!r} @ classes.{name}"
        for name, colour in classes.items()
        if not _is_colour(colour)
    ]
    named: dict[tuple[Any, ...], str] = {}
    for name, colour in classes.items():
        if _is_colour(colour) and (other := named.setdefault(tuple(colour), name)) != name:
            faults.append(f"{name} and {other} have the same colour {colour!r}, so that nobody can tell them apart")
    background = tables.get("background")
    if classes and background not in classes:
        near = did_you_mean(background, classes) if isinstance(background, str) else ""
        faults.append(
            f"expected one of the classes as background, the one that fills what is empty, found {background!r}{near}"
        )
    if faults:
        raise UserError("\n".join(f"data.palette = {str(path)!r}: {fault}" for fault in faults), faults)
    colours = tuple((red, green, blue) for red, green, blue in classes.values())
    return Palette(names=tuple(classes), colours=colours, background=str(background))


def write_palette(path: Path, palette: Palette, heading: str = "", comments: Sequence[str] = ()) -> None:
    """Write the file of a palette, whole or not at all: with a heading, and a comment behind each class."""
    document = tomlkit.document()
    for line in heading.splitlines():
        document.add(tomlkit.comment(line))
    document.add("background", tomlkit.item(palette.background))
    classes = tomlkit.table()
    for number, (name, colour) in enumerate(zip(palette.names, palette.colours, strict=True)):
        item = tomlkit.item(list(colour))
        if comments:
            item.comment(f"# {comments[number]}")  # one that begins with # needs another
        classes.add(name, item)
    document.add("classes", classes)
    write_text(path, tomlkit.dumps(document))


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"data.palette = {str(path)!r}: no such file; name the TOML file of the classes") from None
    except OSError as error:
        raise UserError(f"data.palette = {str(path)!r}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise UserError(f"data.palette = {str(path)!r}: is no TOML file: {error}; see docs/manifest.md") from None


def _is_colour(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value)
