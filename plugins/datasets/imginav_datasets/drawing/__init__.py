"""Draws indoor layouts: rooms and whole scenes, seen from above, in flat classes."""

from imginav_datasets.drawing.heldout import draw_held_out_room, draw_held_out_scene
from imginav_datasets.drawing.layouts import draw_room, draw_scene

__all__ = ["draw_held_out_room", "draw_held_out_scene", "draw_room", "draw_scene"]
