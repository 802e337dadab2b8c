"""A report page, which a notebook shows in place."""

from __future__ import annotations

import html
from pathlib import Path

from attrs import frozen

from imginav.errors import UserError

HEIGHT = 640
"""Of the frame in a notebook, in pixels."""


@frozen
class Page:
    """A page of HTML that holds all that it shows: `page.path` is the file, and a notebook shows it in a frame."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        """Return the page in a frame, for notebooks; raises UserError if it cannot be read."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror}; the report may be disabled") from None
        # A sandbox keeps its scripts from the notebook, and its style is its own.
        return (
            f'<iframe sandbox="allow-scripts" width="100%" height="{HEIGHT}" style="border: 0" '
            f'srcdoc="{html.escape(text)}"></iframe>'
        )
