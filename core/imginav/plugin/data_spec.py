"""What the layouts of a data set are made of: the classes of a pixel, the types of a layout, the targets of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from imginav.plugin.palette import Palette


@frozen(kw_only=True)
class DataSpec:
    """What the layouts of a data set are made of; heads take their sizes from it."""

    palette: Palette  # the classes of a pixel
    labels: tuple[str, ...]  # the types of a layout, such as room and scene
    targets: tuple[str, ...]  # what a batch holds for losses to compare with: rgb, segmentation, label


def spec_table(spec: DataSpec) -> dict[str, Any]:
    """Return what layouts are made of as tables and lists, for files; `spec_of` reads them back."""
    palette = spec.palette
    return {
        "classes": list(palette.names),
        "colours": [list(colour) for colour in palette.colours],
        "background": palette.background,
        "labels": list(spec.labels),
        "targets": list(spec.targets),
    }


def spec_of(table: Mapping[str, Any]) -> DataSpec:
    """Return what `spec_table` made tables of; raises KeyError where something is missing."""
    colours = tuple((int(red), int(green), int(blue)) for red, green, blue in table["colours"])
    palette = Palette(names=tuple(table["classes"]), colours=colours, background=table["background"])
    return DataSpec(palette=palette, labels=tuple(table["labels"]), targets=tuple(table["targets"]))
