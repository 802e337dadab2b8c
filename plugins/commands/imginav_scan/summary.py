"""What a scan found and proposes, for the terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imginav.errors import in_one_line
from imginav.manifest.site import SITE_FILE
from imginav_datasets.colours import hex_of
from imginav_scan.palette_proposal import WELL_COVERED
from imginav_scan.written_files import Proposal

WIDTH = 120
"""Columns where there is no terminal."""

NAMED = 8
"""Of a kind, how many are named."""


def print_summary(proposal: Proposal, *, written: bool, gpu: bool) -> None:
    """Print what was found, the classes with their colours, and the next command to type."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in _facts(proposal):
        facts.add_row(name, text)
    wide = Console(width=console.width if console.is_terminal else WIDTH, highlight=False, markup=False)
    wide.print(facts)
    if proposal.palette.flat:
        wide.print(_classes(proposal))
    for line in _verdict(proposal):
        console.print(line)
    for path in proposal.files:
        console.print(f"{'wrote' if written else 'would write'} {in_one_line(str(path))}")
    if written:
        for line in _next(proposal, gpu=gpu):
            console.print(line)


def _facts(proposal: Proposal) -> list[tuple[str, str]]:
    survey = proposal.survey
    images = survey.images
    sizes = Counter((image.width, image.height) for image in images)
    empty = [image.path for image in images if image.is_empty]
    facts = [
        ("images", f"{len(images):,} in {survey.folder}, of which {len(survey.left):,} to train on"),
        ("sizes", _counted((f"{w}×{h}", n) for (w, h), n in sizes.most_common(NAMED)) + _more(len(sizes) - NAMED)),
        ("formats", _counted(Counter(f"{image.format} {image.mode}" for image in images).most_common(NAMED))),
    ]
    if survey.unusable:
        named = [f"{u.path} ({u.fault})" for u in survey.unusable[:NAMED]]
        facts.append(("unusable", f"{len(survey.unusable):,}: {', '.join(named)}{_more(len(survey.unusable) - NAMED)}"))
    if survey.duplicate_of:
        named = [f"{path} = {first}" for path, first in list(survey.duplicate_of.items())[:3]]
        facts.append(
            ("duplicates", f"{len(survey.duplicate_of):,}: {', '.join(named)}{_more(len(survey.duplicate_of) - 3)}")
        )
    if empty:
        facts.append(("empty", f"{len(empty):,}: {', '.join(empty[:NAMED])}{_more(len(empty) - NAMED)}"))
    if proposal.exclude:
        facts.append(("excluded", f"{survey.excluded:,} by {' '.join(map(shlex.quote, proposal.exclude))}"))
    if survey.types:
        types = Counter(survey.type(image) or "no type" for image in images)
        facts.append(("types", f"{_counted(types.most_common())}, from the sub-folders"))
    if survey.scenes:
        facts.append(("scenes", f"{len({survey.scene(i) for i in images} - {None}):,}, one for each sub-folder"))
    return [(name, in_one_line(text)) for name, text in facts]


def _classes(proposal: Proposal) -> Table:
    palette = proposal.palette
    whose = "the built-in palette" if palette.built_in else f"{len(palette.classes)} classes"
    title = f"palette: {whose}, {palette.covered:.2%} of the pixels"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in ("", "class", "colour", "of the pixels", "images"):
        table.add_column(heading, justify="right" if heading in ("of the pixels", "images") else "left")
    for proposed in palette.classes:
        colour = hex_of(proposed.colour)
        name = f"{proposed.name} (background)" if proposed.name == palette.background else proposed.name
        table.add_row(Text("    ", style=f"on {colour}"), name, colour, f"{proposed.share:.2%}", f"{proposed.images:,}")
    return table


def _verdict(proposal: Proposal) -> list[str]:
    palette, survey = proposal.palette, proposal.survey
    commonest = ", ".join(f"{hex_of(c.colour)} {c.share:.1%}" for c in survey.colours.commonest(5))
    lines = []
    if not palette.flat:
        why = f"the {len(palette.classes)} commonest flat colours cover {palette.covered:.1%} of the pixels"
        if len(palette.classes) < 2:
            why = "they have no two flat colours"
        elif palette.covered == 0:
            why = "they have more than 64 flat colours"
        lines.append(
            f"not flat-coloured ({why}; commonest: {commonest}): photographs, shading or heavy JPEG compression. "
            "Proposed is data.palette = false, with the phase for images without a palette, rgb/1_5."
        )
    elif palette.covered < WELL_COVERED:
        lines.append(
            f"{1 - palette.covered:.1%} of the pixels have no class within data.tolerance = {palette.tolerance}: "
            "blended edges or JPEG compression. Losses and metrics ignore them; images without them are better."
        )
    if palette.flat and not palette.built_in and palette.blends:
        shown = ", ".join(palette.blends[:NAMED]) + _more(len(palette.blends) - NAMED)
        lines.append(f"left out as blends of two classes: {shown}; add to palette.toml what is a class of its own")
    largest = max(max(image.width, image.height) for image in survey.images)
    if largest > proposal.image_size:
        lines.append(
            f"the largest image has {largest} px, and data.image_size = {proposal.image_size} takes the nearest "
            f"pixels: lines thinner than {largest / proposal.image_size:.1f} px may break"
        )
    if len(survey.left) < len(survey.images):
        lines.append(
            f"the list leaves out {len(survey.images) - len(survey.left):,} images that are empty or duplicates"
        )
    return lines


def _next(proposal: Proposal, *, gpu: bool) -> list[str]:
    phase = "1.5" if proposal.palette.flat else "rgb/1.5"
    site = "" if str(proposal.to) == "." else f" --site {shlex.quote(str(proposal.to / SITE_FILE))}"
    trial = "" if gpu else " --trial"
    lines = ["", f"next: imginav run {phase} --name own{trial}{site}"]
    if not gpu:
        lines.append("      (--trial takes minutes in place of hours, on crops of the images; no GPU was found here)")
    if proposal.own_palette:
        lines.append(
            f"      look at {in_one_line(str(proposal.files[-2]))} first, and rename the classes in palette.toml"
        )
    return lines


def _counted(pairs: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in pairs)


def _more(number: int) -> str:
    return f", and {number:,} more" if number > 0 else ""
