"""Huber loss, and a callback that stops a run by a file."""

from imginav import hookimpl
from imginav_huber.huber import Huber
from imginav_huber.stop_file import StopFile


@hookimpl
def imginav_components(registry):
    registry.add("loss", "huber", Huber)
    registry.add("callback", "stop_file", StopFile)
