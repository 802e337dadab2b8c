"""The ten classes of a drawn indoor layout, and their flat colours."""

from __future__ import annotations

from enum import IntEnum

from imginav.plugin import Palette


class LayoutClass(IntEnum):
    """What a pixel of a layout shows; the value is its class index."""

    BED = 0
    CABINET = 1
    CHAIR = 2
    LIGHTING = 3
    OTHERS = 4
    STOOL = 5
    SOFA = 6
    TABLE = 7
    WALL = 8
    BACKGROUND = 9


PALETTE = Palette(
    names=tuple(layout_class.name.lower() for layout_class in LayoutClass),
    colours=(
        (228, 26, 28),
        (55, 126, 184),
        (77, 175, 74),
        (152, 78, 163),
        (127, 127, 127),
        (255, 127, 0),
        (255, 255, 51),
        (166, 86, 40),
        (200, 200, 200),
        (240, 240, 240),
    ),
    background="background",
)
"""The classes by index, with the colours in which layouts are drawn."""

LABELS = ("room", "scene")
"""The types of a layout: a single room, or a whole scene of several."""
