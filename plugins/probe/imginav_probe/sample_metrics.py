"""The metrics of samples: what each of them is.

The networks and libraries that compute them take seconds to import; whoever only asks what they are does not wait.
"""

from __future__ import annotations

NEIGHBOURS = 3
"""The k of precision and recall, that of the paper."""

EXPECTED = 0.05
"""Share of new layouts that count as near a training layout: the quantile that is the threshold."""

LEAST_PIECE = 16
"""Pixels of the smallest connected region that counts as a piece; fewer are specks."""

LEAST_ROOM = 256
"""Pixels of the smallest region between walls that counts as a room."""

PLAN_PROPERTIES = {
    "area": "share of a layout that each class covers",
    "pieces": f"number of connected regions (4 neighbours, at least {LEAST_PIECE} pixels) of each class in a layout",
    "rooms": f"number of regions that walls separate (4 neighbours, at least {LEAST_ROOM} pixels; the edge counts as a "
    "wall)",
    "wall_continuity": "share of a layout's wall pixels that lie in its largest connected wall (8 neighbours)",
}
"""Properties of a layout whose distributions are compared, by the name of the metric."""

FIDELITY = {
    "fdd": "squared Fréchet distance to true layouts in whitened features of a denoising autoencoder of these layouts "
    "(FDD, arXiv 2403.05352)",
    "precision": f"share of samples that lie among true layouts, k = {NEIGHBOURS} (arXiv 1904.06991)",
    "recall": f"share of true layouts that lie among samples, k = {NEIGHBOURS} (arXiv 1904.06991)",
    "memorised": "share of samples that are nearer to a training layout, by the mean colours of their cells, than all "
    f"but {EXPECTED:.0%} of the validation layouts are; new layouts have {EXPECTED:.0%}",
}
PLANS = {name: f"mean 1-Wasserstein distance to true layouts of the {text}" for name, text in PLAN_PROPERTIES.items()}
CONTROL_DEFINITIONS = {
    "control_recall": "share of the pixels of given walls with a wall at most 1 pixel off in the sample",
    "control_precision": "share of the pixels of a sample's walls with a given wall at most 1 pixel off",
}
MORE_IS_BETTER = ("precision", "recall", "control_recall", "control_precision")


def definitions(*, control: bool) -> dict[str, str]:
    """Return the definition of each metric, by name."""
    return FIDELITY | PLANS | (CONTROL_DEFINITIONS if control else {})
