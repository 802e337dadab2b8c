"""Layouts of the user's own: all image files of a folder, in any nesting."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from imginav import LayoutSource, UserError
from imginav.plugin import UNMATCHED
from imginav_datasets.classes import LABELS
from imginav_datasets.image_files import SUFFIXES
from imginav_datasets.image_layouts import ImageDataset, ImageLayouts, Origin, Row

JUNK = "__MACOSX"
"""The folder that macOS adds to archives; its files have the names of images and are none."""


@frozen(kw_only=True)
class Folder(ImageDataset):
    """Layout images found in a folder and its sub-folders, with their classes found by colour."""

    folder: Path  # all image files in it, in any nesting, in the order of their paths
    exclude: tuple[str, ...] = field(default=())  # globs of what to leave out: names, or paths within the folder
    scenes: Literal["folder", "none"] = "none"  # folder: files of one sub-folder are a scene, which is not split apart

    def open(self) -> LayoutSource:
        return FolderLayouts(self)


class FolderLayouts(ImageLayouts):
    """The layouts of a folder."""

    def __init__(self, config: Folder) -> None:
        """Look for the files and check them; raises UserError with all that is wrong at once."""
        found = find_images(config.folder, "data.folder")
        kept = [path for path in found if not is_excluded(path, config.exclude)]
        if not kept:
            left = f"none of its {len(found)} images is left; loosen data.exclude" if found else no_images()
            raise UserError(f"data.folder = {str(config.folder)!r}: {left}")
        types = are_types(kept)
        rows = [
            Row(
                number,
                os.path.join(config.folder, path),  # noqa: PTH118  # a Path for each of a million takes seconds
                path,
                LABELS.index(path.partition("/")[0].lower()) if types and "/" in path else UNMATCHED,
                scene_of(path, types=types) if config.scenes == "folder" else None,
            )
            for number, path in enumerate(kept, 1)
        ]
        origin = Origin(
            config.folder,
            take_out=("name it in data.exclude", "name them in data.exclude"),
            not_chosen="images left out by data.exclude or count",
        )
        super().__init__(config, origin, rows, listed=len(found), again=0, types=types)

    def name(self, index: int) -> str:
        return self._rows[index].shown


def find_images(folder: Path, setting: str) -> list[str]:
    """Return the image files of a folder in any nesting, by their paths within it with /, sorted.

    Image files are those with a suffix of a format that is read. What is hidden is left out, and so is what macOS adds.
    Folders behind links are looked into, each once. Raises UserError, which begins with `setting`, where the folder
    cannot be read.
    """
    where = f"{setting} = {str(folder)!r}" if setting.startswith("data.") else f"{setting}: {folder}"
    if folder.is_file():
        raise UserError(
            f"{where}: is a file; name the folder that holds the images, or name a CSV file of layouts as "
            "data.manifest with data.type = 'layouts'"
        )
    try:
        with os.scandir(folder):
            pass
    except FileNotFoundError:
        raise UserError(f"{where}: no such folder; name the one that holds the images") from None
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror}; name a folder of images") from None
    found: list[str] = []
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        raise UserError(f"{where}: {error.filename} cannot be read: {error.strerror}; allow it, or move it elsewhere")

    for place, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        if (real := os.path.realpath(place)) in seen:  # a link back to a folder that was looked into already
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != JUNK)
        within = os.path.relpath(place, folder).replace(os.sep, "/")
        prefix = "" if within == "." else f"{within}/"
        found += [f"{prefix}{name}" for name in files if is_image(name)]
    return sorted(found)


def is_image(name: str) -> bool:
    """Whether a file has the name of an image, and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122  # as above


def no_images() -> str:
    """Return what to say of a folder without image files."""
    return f"holds no images, in any nesting; these end in {', '.join(SUFFIXES)}"


def is_excluded(path: str, globs: Iterable[str]) -> bool:
    """Whether a glob leaves out a path within the folder: with a / it fits the whole path, else any name in it."""
    names = path.split("/")
    return any(
        fnmatchcase(path, glob) if "/" in glob else any(fnmatchcase(name, glob) for name in names) for glob in globs
    )


def are_types(paths: Sequence[str]) -> bool:
    """Whether the sub-folders at the first level are called as the types of layouts are, and so say the type."""
    first = {path.partition("/")[0].lower() for path in paths if "/" in path}
    return bool(first) and first <= set(LABELS)


def scene_of(path: str, *, types: bool) -> str | None:
    """Return the sub-folder that a file lies in; None at the top, and in a folder that says the type."""
    folder = path.rpartition("/")[0]
    return folder if folder and not (types and "/" not in folder) else None
