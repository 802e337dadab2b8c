"""JSON files that each hold one record: written whole, read strictly; a number that is not finite is null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs

from imginav.errors import UserError
from imginav.files import write_text
from imginav.manifest.structuring import Structurer, StructuringError
from imginav.plugin.registry import Registry

T = TypeVar("T")

Version = tuple[str, int]
"""The key of a record's version, and the version of its layout that is written and read."""

_STRUCTURER = Structurer(Registry())


class MissingRecordError(UserError):
    """A record that does not exist."""


def save_record(path: Path, record: Any, version: Version | None = None, *, patient: bool = True) -> None:
    """Write an attrs instance or a table as JSON, whole or not at all; see `write_bytes`."""
    write_text(path, to_json(record, version), patient=patient)


def load_record_of(path: Path, cls: type[T], what: str, remedy: str, version: Version | None = None) -> T:
    """Read the record of a class; `what` and `remedy` go into the error message.

    Raises MissingRecordError where there is no such file, and UserError where it is damaged or of another version.
    """
    return load_record_with(path, lambda table: _structure(table, cls), what, remedy, version)


def load_record_with(
    path: Path, make: Callable[[dict[str, Any]], T], what: str, remedy: str, version: Version | None = None
) -> T:
    """Read a record that `make` builds from the table of the file; raises as `load_record_of` does."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError("it holds no table")
        if version and table.pop(version[0], None) != version[1]:
            raise ValueError(f"it is of another version than {version[1]}")
        return make(table)
    except (OSError, ValueError, TypeError, LookupError) as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        reason = f"no {error}" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error)
        text = f"{path}: cannot be read as {what} ({reason}); {remedy}"
        raise (MissingRecordError if missing else UserError)(text) from None


def to_json(record: Any, version: Version | None = None) -> str:
    """Return an attrs instance or a table as JSON text, the version first."""
    table: dict[str, Any] = dict([version]) if version else {}
    table |= record if isinstance(record, Mapping) else attrs.asdict(record)
    return json.dumps(_finite(table), indent=2, ensure_ascii=False, default=str) + "\n"


def from_json(text: str | bytes, cls: type[T]) -> T:
    """Return the record of a class from JSON text; raises ValueError where it is none."""
    return _structure(json.loads(text), cls)


def _structure(table: Any, cls: type[T]) -> T:
    try:
        return _STRUCTURER.structure(table, cls)
    except StructuringError as error:
        raise ValueError(str(error)) from None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
