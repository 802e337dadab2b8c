"""The files that a scan writes: the list, the palette and the site file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomlkit
from attrs import frozen

from imginav.errors import UserError
from imginav.files import write_text
from imginav.manifest.site import SITE_FILE
from imginav_datasets.colours import hex_of
from imginav_datasets.palette_file import write_palette
from imginav_evaluation.csv_files import write_rows
from imginav_scan.palette_proposal import PaletteProposal
from imginav_scan.site_file import has_data, site_text
from imginav_scan.survey import Survey

LIST, PALETTE_FILE, SHEET = "layouts.csv", "palette.toml", "contact_sheet.png"

DEFAULT_SIZE, LEAST_SIZE, SIZE_STEP = 512, 128, 64
"""data.image_size of the phases; the smallest that is proposed, which the crops of a trial fit into; its steps."""


@frozen(kw_only=True)
class Proposal:
    """What is proposed for the images of a folder, and where it is written."""

    survey: Survey
    palette: PaletteProposal
    to: Path
    exclude: tuple[str, ...]

    @property
    def own_palette(self) -> bool:
        """Whether a palette file is written."""
        return self.palette.flat and not self.palette.built_in

    @property
    def type(self) -> str:
        """The data set: a list where images are to be left out, which no folder can do; else the folder itself."""
        return "folder" if len(self.survey.left) == len(self.survey.images) and not self.survey.unusable else "layouts"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files to write, the site file last."""
        names = (LIST, *((PALETTE_FILE,) if self.own_palette else ()), SHEET, SITE_FILE)
        return tuple(self.to / name for name in names)

    @property
    def image_size(self) -> int:
        """data.image_size: the phases' own, or less where all images are smaller."""
        largest = max(max(image.width, image.height) for image in self.survey.images)
        return min(DEFAULT_SIZE, max(LEAST_SIZE, -(-largest // SIZE_STEP) * SIZE_STEP))

    @property
    def site(self) -> str:
        """The text of the site file, including what it already contains."""
        comments = (
            f"Written by `imginav scan`, which looked at {_one_line(self.survey.folder)}.",
            "Paths are relative to the working folder of the command.",
        )
        return site_text(self.to / SITE_FILE, self._data, comments)

    @property
    def _data(self) -> dict[str, Any]:
        data: dict[str, Any] = {"type": self.type}
        if self.type == "folder":
            data["folder"] = str(self.survey.folder)
            if self.exclude:
                data["exclude"] = list(self.exclude)
            if self.survey.scenes:
                data["scenes"] = "folder"
        else:
            data["manifest"] = str(self.to / LIST)
            filters = tomlkit.inline_table()
            filters.update({"is_empty": False, "duplicate_of": ""})
            data["filters"] = filters
        if not self.palette.flat:
            data["palette"] = False
        elif self.own_palette:
            data["palette"] = str(self.to / PALETTE_FILE)
        if self.palette.flat and self.palette.tolerance != 8:
            data["tolerance"] = self.palette.tolerance
        if self.image_size != DEFAULT_SIZE:
            data["image_size"] = self.image_size
        return data


def refuse_existing(proposal_files: tuple[Path, ...]) -> None:
    """Raise UserError if any of the files already exists, naming all that do.

    A site file counts only if it has a table `[data]`, or if it cannot be read.
    """
    existing = [
        f"{path} with [data]" if path.name == SITE_FILE.name else str(path)
        for path in proposal_files
        if (has_data(path) if path.name == SITE_FILE.name else path.exists())
    ]
    if existing:
        raise UserError(
            f"{', '.join(existing)} {'is' if len(existing) == 1 else 'are'} there already; write elsewhere with --to "
            "FOLDER, or overwrite with --force"
        )


def write_files(proposal: Proposal, site: str) -> None:
    """Write the list, the palette where there is one, and the site file; the contact sheet is written apart."""
    write_rows(proposal.to / LIST, _rows(proposal))
    if proposal.own_palette:
        write_palette(
            proposal.to / PALETTE_FILE,
            proposal.palette.palette,
            "Written by `imginav scan`: the classes by their flat colours, the commonest first.\n"
            "Rename classes as you like; their order is that of the class indices.",
            [f"{hex_of(c.colour)}, {c.share:.2%} of the pixels" for c in proposal.palette.classes],
        )
    write_text(proposal.to / SITE_FILE, site)


def _rows(proposal: Proposal) -> Iterator[dict[str, Any]]:
    survey = proposal.survey
    folder, to = survey.folder.resolve(), proposal.to.resolve()
    base = folder.relative_to(to).as_posix() if folder.is_relative_to(to) else folder.as_posix()
    prefix = "./" if base == "." else f"{base}/"  # ./ keeps a space at the beginning of a name
    for image in survey.images:
        duplicate = survey.duplicate_of.get(image.path)
        yield {
            "layout_path": prefix + image.path,
            **({"type": survey.type(image) or ""} if survey.types else {}),
            **({"scene_id": survey.scene(image) or ""} if survey.scenes else {}),
            "is_empty": str(image.is_empty).lower(),
            "width": image.width,
            "height": image.height,
            "colours": image.number_of_colours,
            "duplicate_of": f"{prefix}{duplicate}" if duplicate else "",
        }


def _one_line(folder: Path) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(folder))
