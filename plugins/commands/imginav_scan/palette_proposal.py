"""The rule by which a palette is proposed from the colours of many images."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from imginav.plugin.palette import UNMATCHED, Palette
from imginav_datasets.classes import PALETTE
from imginav_datasets.colours import Colour, code_of, distance, hex_of
from imginav_scan.images import ALIKE
from imginav_scan.survey import Survey

LEAST_SHARE = 0.001
"""Share of all flat areas from which a colour is a class."""

LEAST_IMAGES_SHARE, LEAST_IMAGES = 0.02, 3
"""A rarer colour is a class where its flat areas occur in this share of the images, and in so many of them."""

RARE_SHARE = 1e-5
"""Share of all flat areas below which a colour is no class, however many images have it."""

BLEND_SHARE = 0.01
"""Share of all flat areas below which a colour between those of two commoner classes is a blend of them."""

MOST_CLASSES = 64

MOST_CANDIDATES = 1024
"""Flat colours that are looked at, the commonest first."""

FLAT_COVERED = 0.9
"""Share of all pixels that the palette has to cover for images to count as flat-coloured: 1 - data.unmatched_limit."""

WELL_COVERED = 0.99
"""Share of all pixels from which nothing needs to be said."""

TOLERANCES = (8, 16, 24, 32)
"""Values of data.tolerance that are tried: the smallest that covers `WELL_COVERED` is proposed."""


@frozen(kw_only=True)
class ProposedClass:
    """A class of the proposed palette."""

    name: str
    colour: Colour
    share: float  # of all pixels, within the tolerance
    images: int  # that have exactly this colour in flat areas


@frozen(kw_only=True)
class PaletteProposal:
    """The classes that were found, and how much of the images they cover."""

    classes: tuple[ProposedClass, ...]  # the commonest first
    background: str
    covered: float  # share of all pixels within the tolerance of a class
    tolerance: int
    built_in: bool  # whether the built-in palette covers them as well, and is proposed in place of one of their own
    blends: tuple[str, ...] = ()  # colours that were left out as blends of two classes, as #rrggbb

    @property
    def flat(self) -> bool:
        """Whether the images are flat-coloured, so that a palette says what they show."""
        return self.covered >= FLAT_COVERED and 2 <= len(self.classes) <= MOST_CLASSES

    @property
    def palette(self) -> Palette:
        """The classes as a palette."""
        return PALETTE if self.built_in else _palette_of(self.classes, self.background)


def propose_palette(survey: Survey) -> PaletteProposal:
    """Propose a palette by this rule.

    Flat areas are squares of 2×2 pixels of one colour: photographs and blended edges have few. The commonest colour of
    flat areas is a class and takes in all colours within 8 of it in each channel; so does the commonest of the rest,
    and so on, where it covers 0.1 % of the flat areas or occurs in 2 % of the images, and is no blend of two commoner
    ones.
    The background is the class with the most pixels on the borders of images.
    """
    centres, blends = _classes(survey)
    channels, pixels = survey.colours.counted()
    tolerance, covered, shares = _tolerance(centres, channels, pixels)
    built_in = _share_of(PALETTE, channels, pixels, ALIKE)[0]
    names = _names(centres)
    classes = [
        ProposedClass(name=name, colour=centre, share=share, images=survey.flat.images_with(centre))
        for name, centre, share in zip(names, centres, shares, strict=True)
    ]
    if built_in >= WELL_COVERED and len(centres) > 1:
        covered, tolerance = built_in, ALIKE
    return PaletteProposal(
        classes=tuple(sorted(classes, key=lambda proposed: -proposed.share)),
        background=_background(survey, names, centres),
        covered=covered,
        tolerance=tolerance,
        built_in=built_in >= WELL_COVERED and len(centres) > 1,
        blends=tuple(map(hex_of, blends)),
    )


def _classes(survey: Survey) -> tuple[list[Colour], list[Colour]]:
    """Return the colours of the classes, and those that were left out as blends."""
    colours, counts = survey.flat.counted()
    if not len(counts):  # no square of one colour anywhere
        return [survey.colours.commonest(1)[0].colour], []
    total = counts.sum()
    order = np.argsort(-counts, kind="stable")
    colours, counts = colours[order].astype(np.int64), counts[order]
    free = np.ones(len(counts), dtype=bool)
    centres: list[Colour] = []
    blends: list[Colour] = []
    for index in range(min(MOST_CANDIDATES, len(counts))):
        if not free[index]:
            continue
        within = free & (np.abs(colours - colours[index]) <= ALIKE).all(axis=-1)
        free &= ~within
        share = counts[within].sum() / total
        red, green, blue = (int(channel) for channel in colours[index])
        images = survey.flat.images_with((red, green, blue))
        common = images >= max(LEAST_IMAGES, LEAST_IMAGES_SHARE * survey.flat.images) and share >= RARE_SHARE
        if share < LEAST_SHARE and not common:
            continue
        if share < BLEND_SHARE and _is_blend((red, green, blue), centres):
            blends.append((red, green, blue))
            continue
        centres.append((red, green, blue))
        if len(centres) > MOST_CLASSES:
            break
    return centres, blends


def _is_blend(colour: Colour, centres: list[Colour]) -> bool:
    """Whether a colour lies on the line between two of the centres, within `ALIKE`, and near neither."""
    point = np.array(colour, dtype=np.float64)
    for number, one in enumerate(centres):
        for other in centres[number + 1 :]:
            start, end = np.array(one, dtype=np.float64), np.array(other, dtype=np.float64)
            way = float(np.clip((point - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1))
            if 0.1 < way < 0.9 and np.abs(start + way * (end - start) - point).max() <= ALIKE:
                return True
    return False


def _tolerance(
    centres: list[Colour], channels: NDArray[np.uint8], pixels: NDArray[np.int64]
) -> tuple[int, float, list[float]]:
    """Return the smallest tolerance that covers the pixels well, with the share it covers and that of each class."""
    if len(centres) > MOST_CLASSES:
        return ALIKE, 0.0, [0.0] * len(centres)
    palette = _palette_of([ProposedClass(name=str(c), colour=c, share=0, images=0) for c in centres], str(centres[0]))
    apart = min((distance(a, b) for i, a in enumerate(centres) for b in centres[i + 1 :]), default=255)
    tried = [(t, *_share_of(palette, channels, pixels, t)) for t in TOLERANCES if t == ALIKE or 2 * t < apart]
    return next((found for found in tried if found[1] >= WELL_COVERED), tried[0])


def _share_of(
    palette: Palette, channels: NDArray[np.uint8], pixels: NDArray[np.int64], tolerance: int
) -> tuple[float, list[float]]:
    """Return the share of all pixels that has a class, and that of each class."""
    classes = palette.match(channels[None], tolerance)[0]
    shares = np.bincount(classes, pixels, UNMATCHED + 1) / pixels.sum()
    return float(1 - shares[UNMATCHED]), shares[: len(palette)].tolist()


def _names(centres: list[Colour]) -> list[str]:
    """Return a name for each class: that of the built-in class with the same colour, once, or colour_rrggbb."""
    names: list[str] = []
    for centre in centres:
        off, name = min((distance(centre, c), name) for name, c in zip(PALETTE.names, PALETTE.colours, strict=True))
        names.append(name if off <= ALIKE and name not in names else f"colour_{code_of(centre):06x}")
    return names


def _background(survey: Survey, names: list[str], centres: list[Colour]) -> str:
    """Return the class with the most pixels on the borders of images."""
    channels, pixels = survey.border.counted()
    off = np.abs(channels[:, None].astype(np.int64) - np.array(centres, dtype=np.int64)).max(axis=-1)  # (N, classes)
    on_border = np.bincount(off.argmin(axis=1), pixels * (off.min(axis=1) <= max(TOLERANCES)), len(centres))
    return names[int(on_border.argmax())]


def _palette_of(classes: list[ProposedClass] | tuple[ProposedClass, ...], background: str) -> Palette:
    return Palette(
        names=tuple(proposed.name for proposed in classes),
        colours=tuple(proposed.colour for proposed in classes),
        background=background,
    )
