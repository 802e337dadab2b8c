"""A look at all images of a folder: counts of what they are, and of their colours."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from attrs import field, frozen

from imginav.errors import UserError
from imginav.terminal import show_progress
from imginav_datasets.colours import ColourCounts
from imginav_datasets.folder import are_types, find_images, is_excluded, no_images, scene_of
from imginav_datasets.image_files import ignore_warnings_of_pillow
from imginav_datasets.preparing import in_threads
from imginav_scan.images import ScannedImage, UnusableFile, look_at

LEAST_SCENES, MOST_OF_A_SCENE = 25, 50
"""Sub-folders are scenes where there are at least so many of them, with 2 to so many images each in the median.

Of fewer, a split of 95 % would leave none to validate.
"""


@frozen(kw_only=True)
class Survey:
    """What was found in a folder."""

    folder: Path
    images: tuple[ScannedImage, ...]  # those that can be used, in the order of their paths
    unusable: tuple[UnusableFile, ...]
    excluded: int  # images that --exclude leaves out
    duplicate_of: dict[str, str]  # by the path of an image, the first one that shows the same
    colours: ColourCounts  # of all pixels
    flat: ColourCounts  # of squares of 2×2 pixels of one colour
    border: ColourCounts  # of the outermost rows and columns
    types: bool = field(init=False)  # whether the sub-folders at the first level are called as the types of layouts are
    scenes: bool = field(init=False)  # whether sub-folders suggest scenes

    def __attrs_post_init__(self) -> None:
        paths = [image.path for image in self.images]
        object.__setattr__(self, "types", are_types(paths))
        object.__setattr__(self, "scenes", _suggest_scenes(paths, types=self.types))

    @property
    def left(self) -> tuple[ScannedImage, ...]:
        """The images to train on: neither empty nor shown by another one."""
        return tuple(i for i in self.images if not i.is_empty and i.path not in self.duplicate_of)

    def scene(self, image: ScannedImage) -> str | None:
        """Return the scene that an image is a part of, where sub-folders suggest it."""
        return scene_of(image.path, types=self.types) if self.scenes else None

    def type(self, image: ScannedImage) -> str | None:
        """Return the type of a layout, where sub-folders say it."""
        return image.path.partition("/")[0].lower() if self.types and "/" in image.path else None


def survey(folder: Path, exclude: Sequence[str]) -> Survey:
    """Look at all images of a folder; raises UserError where there are none, or none that can be used."""
    ignore_warnings_of_pillow()
    found = find_images(folder, "imginav scan")
    paths = [path for path in found if not is_excluded(path, exclude)]
    if not paths:
        left = f"--exclude leaves none of its {len(found)} images; exclude fewer" if found else no_images()
        raise UserError(f"{folder}: {left}")
    images: list[ScannedImage] = []
    unusable: list[UnusableFile] = []
    first: dict[bytes, str] = {}
    duplicate_of: dict[str, str] = {}
    colours, flat, border = ColourCounts(), ColourCounts(), ColourCounts()
    looked = in_threads(lambda path: look_at(folder, path), paths)
    for seen in show_progress(looked, "looking at images", len(paths)):
        if isinstance(seen, UnusableFile):
            unusable.append(seen)
            continue
        image, its = seen
        images.append(image)
        if (earlier := first.setdefault(image.digest, image.path)) != image.path:
            duplicate_of[image.path] = earlier
            continue  # its colours count once
        colours.add(its.codes, its.pixels)
        flat.add(its.flat_codes, its.flat_pixels)
        border.add(*np.unique(its.border, return_counts=True))
    if not images:
        kinds = ", ".join(f"{number} {fault}" for fault, number in Counter(u.fault for u in unusable).most_common(5))
        raise UserError(f"{folder}: none of its {len(unusable)} image files can be used ({kinds}); name another folder")
    return Survey(
        folder=folder,
        images=tuple(images),
        unusable=tuple(unusable),
        excluded=len(found) - len(paths),
        duplicate_of=duplicate_of,
        colours=colours,
        flat=flat,
        border=border,
    )


def excluded_by_default(folder: Path, to: Path, sheet: str) -> tuple[str, ...]:
    """Return globs of the pictures that imginav itself writes, where these lie within the folder."""
    places = ((Path("outputs"), "{}/*"), (to / sheet, "{}"))
    within = [(os.path.relpath(place.resolve(), folder.resolve()), glob) for place, glob in places if place.exists()]
    return tuple(
        glob.format(path.replace(os.sep, "/")) for path, glob in within if path != "." and not path.startswith("..")
    )


def _suggest_scenes(paths: Sequence[str], *, types: bool) -> bool:
    sizes = Counter(scene for path in paths if (scene := scene_of(path, types=types))).values()
    return len(sizes) >= LEAST_SCENES and 2 <= median(sizes) <= MOST_OF_A_SCENE
