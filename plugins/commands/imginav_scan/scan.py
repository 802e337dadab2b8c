"""Looks at a folder of images, proposes how to train on them, and writes the proposal."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from imginav.manifest.site import SITE_FILE
from imginav_scan.contact_sheet import write_sheet
from imginav_scan.palette_proposal import propose_palette
from imginav_scan.summary import print_summary
from imginav_scan.survey import excluded_by_default, survey
from imginav_scan.written_files import LIST, SHEET, Proposal, refuse_existing, write_files


@frozen(kw_only=True)
class ScanRequest:
    """What is scanned, and where the proposal goes."""

    folder: Path
    to: Path
    exclude: tuple[str, ...] = ()
    force: bool = False  # whether files that are there already are written over
    dry_run: bool = False  # whether the proposal is only shown


def scan(request: ScanRequest) -> Proposal:
    """Look at all images of a folder, write the proposal for them and print it.

    Raises UserError where the folder holds no image that can be used, where a file is there already, and where the disk
    refuses one.
    """
    if not (request.force or request.dry_run):  # what is written in any case; said before minutes are spent
        refuse_existing(tuple(request.to / name for name in (LIST, SHEET, SITE_FILE)))
    exclude = (*request.exclude, *excluded_by_default(request.folder, request.to, SHEET))
    found = survey(request.folder, exclude)
    proposal = Proposal(survey=found, palette=propose_palette(found), to=request.to, exclude=exclude)
    if not request.dry_run:
        if not request.force:
            refuse_existing(proposal.files)
        site = proposal.site  # raises before anything is written
        write_sheet(request.to / SHEET, found, proposal.palette)
        write_files(proposal, site)
    print_summary(proposal, written=not request.dry_run, gpu=_has_gpu())
    return proposal


def _has_gpu() -> bool:
    import torch  # takes seconds, and is needed for this alone

    return torch.cuda.is_available()
