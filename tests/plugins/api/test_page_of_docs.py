"""docs/python.md, from the first block to the last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "python.md"


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.usefixtures("study")
def test_every_block_about_python_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {"__name__": "documents"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  # the project's own documents
    assert len(blocks) == 5
    assert {path.name for path in Path("outputs").glob("first*")} == {"first"}
