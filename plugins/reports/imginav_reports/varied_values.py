"""What the experiments of a phase differ in, as headings and cells of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imginav.manifest.sweeps import switched_by_false


def short_names(keys: Sequence[str]) -> list[str]:
    """Return dotted keys without what they need not say to be told apart: heads.rgb for decoder.heads.rgb."""

    def suffix(key: str, length: int) -> str:
        return ".".join(key.split(".")[-length:])

    return [
        next(
            suffix(key, length)
            for length in range(1, len(key.split(".")) + 1)
            if all(other == key or suffix(other, length) != suffix(key, length) for other in keys)
        )
        for key in keys
    ]


def shown_value(changes: Mapping[str, Any], key: str) -> str:
    """Return a varied value for people; a table as what is in it, `false` for what is switched off as off."""
    value = changes.get(key)
    if value is None:
        parts = key.split(".")
        off = any(changes.get(".".join(parts[:length])) is False for length in range(1, len(parts)))
        return "off" if off else "none"
    if value is False and switched_by_false(key):
        return "off"
    if isinstance(value, Mapping):
        return f"weight {value['weight']:g}" if "weight" in value else "on"
    return str(value).lower() if isinstance(value, bool) else f"{value}"
