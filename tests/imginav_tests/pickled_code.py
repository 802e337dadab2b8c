"""What executes something when it is unpickled."""

from __future__ import annotations

import os
from pathlib import Path


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self._marker),))
