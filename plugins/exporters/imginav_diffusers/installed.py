"""What the class has from imginav where it is installed; in a file of its own, the class has both from that file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imginav.model.autoencoder import Autoencoder
from imginav.plugin.registry import installed
from imginav_diffusers.standalone import class_file_of
from imginav_handoff.architecture import Architecture

CONFIG = "config.json"


def build_network(architecture: dict[str, Any]) -> Autoencoder:
    """Return the autoencoder, without its weights, that `Architecture.table()` describes.

    Raises UserError where a plugin that it needs is not installed.
    """
    return Architecture.of(architecture, CONFIG).build(installed(), CONFIG)


def class_file(network: Autoencoder, architecture: Mapping[str, Any]) -> str:
    """Return the source of a file that defines the class for diffusers, for this autoencoder."""
    return class_file_of(network, architecture)
