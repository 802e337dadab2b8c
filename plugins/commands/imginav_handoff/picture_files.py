"""Which picture files a command takes: files, folders with all that is in them, and patterns; and where results go."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from attrs import frozen
from PIL import Image

from imginav.errors import UserError
from imginav_datasets.image_files import FORMATS

Log = Callable[[str], None]


@frozen
class PictureFile:
    """A picture, and where its result belongs in the folder of results."""

    path: Path
    place: Path  # relative, with the picture's own suffix; below a folder or pattern, with the folders on the way
    named: bool  # whether it was named itself; others are skipped if they cannot be read


def find_pictures(given: Sequence[str | Path], to: Path) -> list[PictureFile]:
    """Return the picture files that were given as files, folders or patterns such as `plans/**/*.png`.

    Of a folder, these are all files with the suffix of an image format in it and in the folders below, without hidden
    ones and without what lies in `to`. Raises UserError where a folder or pattern has none.
    """
    found: dict[Path, PictureFile] = {}
    for name in given:
        path = Path(name)
        if path.is_dir():
            pictures = _in_folder(path, to)
        elif not path.exists() and glob.has_magic(str(name)):
            pictures = _of_pattern(str(name), to)
        else:
            pictures = [PictureFile(path, Path(path.name), named=True)]
        if not pictures:
            raise UserError(
                f"{name}: holds no picture ({', '.join(sorted(suffixes()))}); name pictures or a folder with some"
            )
        for picture in pictures:
            found.setdefault(picture.path, picture)
    return list(found.values())


def places_in(to: Path, pictures: Sequence[PictureFile], suffix: str, kept_free: str = "") -> list[Path]:
    """Return where the result of each picture is written in the folder `to`.

    Raises UserError where two would have the same place, a picture would be overwritten by its own result, or one would
    be named `kept_free`.
    """
    places = [to / picture.place.with_suffix(suffix) for picture in pictures]
    if twice := {str(place.relative_to(to)) for place in places if places.count(place) > 1}:
        raise UserError(f"{to}: several pictures would be written to {sorted(twice)[0]}; rename one of them")
    sources = {picture.path.resolve() for picture in pictures}
    if overwritten := [place for place in places if place.resolve() in sources]:
        raise UserError(f"{to}: {overwritten[0]} would be overwritten by its result; name another folder")
    if kept_free and to / kept_free in places:
        raise UserError(f"{to}: a picture named {kept_free} would be lost; rename it")
    return places


@cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of the image formats that are read, in small letters."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)


def _in_folder(folder: Path, to: Path) -> list[PictureFile]:
    paths = sorted(path for path in folder.rglob("*") if _is_wanted(path, folder, to))
    return [PictureFile(path, path.relative_to(folder), named=False) for path in paths]


def _of_pattern(pattern: str, to: Path) -> list[PictureFile]:
    root = _root_of(pattern)
    paths = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207  # it takes absolute ones
    return [PictureFile(path, path.relative_to(root), named=False) for path in paths if _is_wanted(path, root, to)]


def _root_of(pattern: str) -> Path:
    """Return the folder of a pattern before its first wildcard."""
    parts = Path(pattern).parts
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:fixed])


def _is_wanted(path: Path, root: Path, to: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return (
        not hidden
        and path.suffix.lower() in suffixes()
        and path.is_file()
        and not path.resolve().is_relative_to(to.resolve())
    )
