"""Small autoencoders, as exporters are given them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from imginav import DataSpec, TrainedAutoencoder
from imginav.plugin.registry import installed
from imginav_tests.trained import trained_autoencoder

MakeTrained = Callable[..., TrainedAutoencoder]


@pytest.fixture
def make_trained(spec: DataSpec) -> MakeTrained:
    """Return a small autoencoder with encoder and decoder of a kind, and one head."""

    def make(*, variational: bool = False, kind: str = "residual", head: str = "palette") -> TrainedAutoencoder:
        return trained_autoencoder(installed(), spec, kind, {head: {"type": head}}, variational=variational)

    return make
