"""Draws indoor layouts: rooms and whole scenes, seen from above, in flat classes."""

from imginav_datasets.drawing.layouts import draw_room, draw_scene

__all__ = ["draw_room", "draw_scene"]
