"""A picture of some of the images that were looked at, and of the palette that is proposed for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imginav_datasets.colours import hex_of
from imginav_datasets.image_files import UnusableImageError, read_image
from imginav_datasets.preparing import in_threads
from imginav_evaluation.pictures import write_png
from imginav_scan.images import WHITE, ScannedImage
from imginav_scan.palette_proposal import PaletteProposal
from imginav_scan.survey import Survey

TILE, GAP, LINE = 176, 12, 16
"""Pixels: side of a thumbnail, between two of them, height of a line of text."""

COLUMNS, MOST_IMAGES = 8, 48

SWATCH = 40
"""Height of a swatch in pixels."""

PAPER, INK, MUTED, MARKED = (255, 255, 255), (30, 30, 30), (110, 110, 110), (190, 30, 30)

CHECKER = (214, 214, 214)
"""Frame of thumbnails and swatches, which would be lost where they are white."""


def write_sheet(path: Path, survey: Survey, proposal: PaletteProposal) -> None:
    """Write the contact sheet as a PNG, whole or not at all."""
    write_png(path, draw_sheet(survey, proposal))


def draw_sheet(survey: Survey, proposal: PaletteProposal) -> Image.Image:
    """Return thumbnails with captions, evenly spread over the images in the order of their paths, and swatches."""
    number = min(MOST_IMAGES, len(survey.images))
    chosen = [survey.images[i] for i in np.linspace(0, len(survey.images) - 1, number).round().astype(int)]
    columns = min(COLUMNS, max(4, number))
    rows = -(-number // columns)
    row_height = TILE + 2 * LINE + GAP
    swatch_rows = -(-len(proposal.classes) // columns) if proposal.flat else 0
    title_height = 2 * LINE + GAP
    width = GAP + columns * (TILE + GAP)
    palette_top = GAP + title_height + rows * row_height
    height = palette_top + title_height + swatch_rows * (SWATCH + 2 * LINE + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    shown = f"{number} of {len(survey.images):,} images" if number < len(survey.images) else f"{number} images"
    pen.text((GAP, GAP), _printable(f"{survey.folder}: {shown}"), fill=INK, font=_font(16))
    thumbnails = in_threads(lambda image: _thumbnail(survey.folder, image), chosen)
    for place, (image, thumbnail) in enumerate(zip(chosen, thumbnails, strict=True)):
        left = GAP + place % columns * (TILE + GAP)
        top = GAP + title_height + place // columns * row_height
        _paste(sheet, pen, thumbnail, left, top)
        marks = [mark for mark, marked in _marks(survey, image) if marked]
        facts = f"{image.width}x{image.height}, {image.number_of_colours:,} colours"
        pen.text((left, top + TILE + 2), _fitted(pen, image.path), fill=INK, font=_font(12))
        second = f"{', '.join(marks)}; {facts}" if marks else facts
        pen.text((left, top + TILE + 2 + LINE), _fitted(pen, second), fill=MARKED if marks else MUTED, font=_font(12))
    _draw_palette(pen, proposal, columns, palette_top)
    return sheet


def _draw_palette(pen: ImageDraw.ImageDraw, proposal: PaletteProposal, columns: int, top: int) -> None:
    if not proposal.flat:
        pen.text((GAP, top), "Not flat-coloured: no palette is proposed", fill=INK, font=_font(16))
        return
    kind = "The built-in palette covers" if proposal.built_in else "The proposed palette covers"
    title = f"{kind} {proposal.covered:.2%} of the pixels; background: {proposal.palette.background}"
    pen.text((GAP, top), title, fill=INK, font=_font(16))
    for place, proposed in enumerate(proposal.classes):
        left = GAP + place % columns * (TILE + GAP)
        y = top + 2 * LINE + GAP + place // columns * (SWATCH + 2 * LINE + GAP)
        pen.rectangle((left, y, left + TILE - 1, y + SWATCH - 1), fill=proposed.colour, outline=CHECKER)
        pen.text((left, y + SWATCH + 2), _fitted(pen, proposed.name), fill=INK, font=_font(12))
        facts = f"{hex_of(proposed.colour)}, {proposed.share:.2%}"
        pen.text((left, y + SWATCH + 2 + LINE), facts, fill=MUTED, font=_font(12))


def _marks(survey: Survey, image: ScannedImage) -> list[tuple[str, bool]]:
    return [("empty", image.is_empty), ("duplicate", image.path in survey.duplicate_of)]


def _thumbnail(folder: Path, image: ScannedImage) -> Image.Image | None:
    try:
        picture = Image.fromarray(read_image(folder / image.path, None, WHITE))
    except UnusableImageError:  # it vanished since it was looked at
        return None
    picture.thumbnail((TILE, TILE), Image.Resampling.BOX)
    return picture


def _paste(sheet: Image.Image, pen: ImageDraw.ImageDraw, thumbnail: Image.Image | None, left: int, top: int) -> None:
    """Put a thumbnail into the middle of its place, with a frame around the place."""
    pen.rectangle((left - 1, top - 1, left + TILE, top + TILE), outline=CHECKER)
    if thumbnail is not None:
        sheet.paste(thumbnail, (left + (TILE - thumbnail.width) // 2, top + (TILE - thumbnail.height) // 2))


def _fitted(pen: ImageDraw.ImageDraw, text: str) -> str:
    """Return the end of a text that fits under a thumbnail: of a path, the end tells the most."""
    text, font = _printable(text), _font(12)
    if pen.textlength(text, font=font) <= TILE:
        return text
    while text and pen.textlength(f"…{text}", font=font) > TILE:
        text = text[1:]
    return f"…{text}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
