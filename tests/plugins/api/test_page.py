"""Pages in a notebook."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from imginav import UserError
from imginav_api.page import Page


def test_a_page_is_shown_whole_in_a_frame_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text('<p class="a">40 °C & more</p>')
    page = Page(path)
    found = re.search(r'<iframe sandbox="allow-scripts" .*srcdoc="([^"]*)"></iframe>', page._repr_html_())
    assert found
    assert html.unescape(found[1]) == path.read_text()
    assert Path(page) == path
    assert str(page) == str(path)


def test_a_page_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"report\.html: cannot be read: No such file"):
        Page(tmp_path / "report.html")._repr_html_()
