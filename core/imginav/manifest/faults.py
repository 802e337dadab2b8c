"""Everything that is wrong in a phase's files, gathered before any of it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from imginav.errors import UserError, in_one_line
from imginav.manifest.config_layers import Keys
from imginav.manifest.structuring import StructuringError

MOST_FAULTS = 100
"""That are shown; who has mended these may ask again."""


class Faults:
    """Everything that is wrong in a phase, each fault once, however many experiments have it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, tuple[str, ...]] = {}  # with the keys that lead to the fault

    @contextmanager
    def gathered(self, origins: Mapping[Keys, str], within: Keys = ()) -> Iterator[None]:
        """Keep the faults of what is structured inside, with the origins of their values."""
        try:
            yield
        except StructuringError as error:
            origins_within = _origins_within(origins)
            for fault in error.faults:
                keys = (*within, *fault.path)
                origin = ", ".join(origins_within.get(keys, ())) or str(self._path)
                place = in_one_line(".".join(keys)) or "the manifest"
                where = f" ({in_one_line(origin)})"
                if fault.is_missing:
                    where = f"; give it in {in_one_line(str(self._path))}, or with --set {place}=VALUE"
                self._lines[fault.at(place) + where] = keys

    @property
    def enough(self) -> bool:
        """Whether there are more faults than anyone reads."""
        return len(self._lines) > MOST_FAULTS

    def stop_if_any(self) -> None:
        """Raise UserError with all of them, where there are any."""
        if self._lines:
            heading = f"{self._path}: {len(self._lines)} {'fault' if len(self._lines) == 1 else 'faults'}"
            faults = sorted(self._lines, key=self._lines.__getitem__)
            if self.enough:
                faults[MOST_FAULTS:] = ["… and more"]
            raise UserError("\n".join([heading, *(f"  {fault}" for fault in faults)]), faults)


def _origins_within(origins: Mapping[Keys, str]) -> dict[Keys, dict[str, None]]:
    """Return the origins of each value, and for each table those of all that stands in it, in their order."""
    within: dict[Keys, dict[str, None]] = {}
    for key, origin in origins.items():
        for length in range(len(key) + 1):
            within.setdefault(key[:length], {})[origin] = None
    return within
