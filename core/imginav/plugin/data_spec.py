"""What the layouts of a data set are made of: the classes of a pixel, the types of a layout, the targets of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from imginav.plugin.palette import Palette  # needs numpy


@frozen(kw_only=True)
class DataSpec:
    """What the layouts of a data set are made of; heads take their sizes from it."""

    palette: Palette  # the classes of a pixel
    labels: tuple[str, ...]  # the types of a layout, such as room and scene
    targets: tuple[str, ...]  # what a batch holds for losses to compare with: rgb, segmentation, label
